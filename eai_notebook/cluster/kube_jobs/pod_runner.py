"""The process beside a group's pods, on the notebook's machine: creates the job, follows it, deletes it.

For the group it is what ``mpirun`` is elsewhere: it runs as long as the ranks do, prints their output, and
ends them on SIGTERM. Run as ``python -m eai_notebook.cluster.kube_jobs.pod_runner ORDER``, where ORDER is a
file with the fields of `PodOrder`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from eai_notebook.cluster.batch_system import OURS
from eai_notebook.cluster.host_findings import networks_of, own_software, same_software
from eai_notebook.cluster.keys import KeyPair
from eai_notebook.cluster.kube_jobs.kube_api import KubeApi, pod_index
from eai_notebook.cluster.kube_jobs.manifests import KEYS, SETTINGS, secret
from eai_notebook.cluster.kube_jobs.pod_channel import ALIVE_S, Runner
from eai_notebook.cluster.kube_jobs.pod_order import PodOrder, PodsState
from eai_notebook.cluster.kube_jobs.pod_patience import PodPatience
from eai_notebook.cluster.kube_jobs.pod_settings import settings_for_pods
from eai_notebook.cluster.kube_jobs.pod_states import PodState, pod_state, summary
from eai_notebook.errors import EaiError

TICK_S: Final = 0.1
LOOK_S: Final = 1.0
REPORT_S: Final = 60.0
"""How long a pod that runs may take to report: it imports this package, and connects."""
CAUSE_S: Final = 4.0
"""How long the API may take to say why a pod has ended."""
SILENT_S: Final = 30.0
"""How long an agent, which reports every few seconds, may be silent."""
REFUSED_S: Final = 30.0
"""How long the API may refuse to show pods that wait: its rights take a moment after its start."""
GONE_S: Final = 25.0
"""How long pods may take to leave."""


class PodRunner:
    """Runs one order."""

    def __init__(self, order: PodOrder) -> None:
        self._order = order
        self._file = Path(order.state)
        self._name = str(order.job["metadata"]["name"])
        self._pods = int(order.job["spec"]["completions"])
        self._api = KubeApi(order.context, order.namespace)
        self._keys = Path(order.keys).read_text() if order.keys else ""
        pair = (KeyPair.of(json.loads(self._keys)) if self._keys else None) or KeyPair.make()
        self._line = Runner(order.address, pair)
        self._state = PodsState(self._name)
        self._agents: dict[int, bytes] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._hosts: dict[str, int] = {}
        self._requests: dict[int, bytes] = {}
        self._heard: dict[bytes, float] = {}
        self._environment: dict[str, str] = {}
        self._patience = PodPatience()
        self._leaving: list[int] = []
        self._known: dict[int, PodState] = {}
        self._started = False
        self._ended: int | None = None
        self._created = False
        self._looked = self._said = 0.0
        self._silent_since: float | None = None
        self.stopped = threading.Event()

    def run(self) -> int:
        """Run the job to its end, or until `stopped`; return the exit code of this process."""
        code = 1
        try:
            self._create()
            while self._ended is None and not self.stopped.is_set():
                self._hear()
                self._say_alive()
                self._look()
                self._start_when_all_are_there()
            if self._ended:
                self._explain_end()
            code = self._ended or 0
        except EaiError as error:
            _say(f"{OURS}{error.what}" + (f": {error.remedy}" if error.remedy else ""))
        finally:
            self._leave()
        return code

    # -- start --------------------------------------------------------------------------

    def _create(self) -> None:
        order = self._order
        self._note("submitted", "the job is being created")
        if self.stopped.is_set():
            return
        self._created = True  # also if the answer does not arrive
        made = self._api.create_job(order.job)
        settings = {"where": self._line.where, "lease_s": order.lease_s, "folder": order.folder}
        files = {SETTINGS: json.dumps(settings)}
        if self._keys:
            files[KEYS] = self._keys
        self._api.create_secret(secret(self._name, made["metadata"]["uid"], files))

    def _start_when_all_are_there(self) -> None:
        if self._started or len(self._agents) < self._pods:
            return
        self._started = True
        mine, order = own_software(), self._order
        unfit = []
        for index in range(self._pods):
            answer, name = self._answers[index]["answer"], self._answers[index]["pod"]
            found = same_software(name, answer, mine)
            if found.state == "fail":
                unfit.append(f"{name}: {found.found}")
            elif not answer["mpirun"]:
                unfit.append(f"{name}: its image has no mpirun")
        if unfit:
            remedy = "use an image with the same packages as the notebook's"
            raise EaiError("; ".join(unfit), remedy, code="kube-unfit")
        answers = [self._answers[index]["answer"] for index in range(self._pods)]
        left, hosts = order.size, []
        for index, answer in enumerate(answers):
            ranks = min(order.per_pod, left)
            left -= ranks
            hosts.append(f"{answer['back']['address']}:{ranks}")
            self._hosts[answer["back"]["address"]] = index
        libraries = {self._answers[index]["library"] for index in range(self._pods)}
        self._environment = settings_for_pods()
        start = {
            "hosts": ",".join(hosts),
            "size": order.size,
            "per_pod": order.per_pod,
            "rank": order.rank,
            "cores": order.cores or min(answer["cores"] for answer in answers),
            "networks": ",".join(networks_of(answers)),
            "fabric": all(answer["fabric"] for answer in answers),
            "library": libraries.pop() if len(libraries) == 1 else None,
            "environment": self._environment,
            # The notebook's folder where every pod has it, else the one that the image starts in.
            "folder": order.folder if all(answer["folder"] for answer in answers) else ".",
        }
        self._line.send(self._agents[0], "start", start)
        self._note("starting", "")

    # -- messages -----------------------------------------------------------------------

    def _hear(self) -> None:
        for who, kind, content in self._line.receive(TICK_S):
            self._heard[who] = time.monotonic()
            if kind == "hello":
                self._agents[content["index"]] = who
                self._answers[content["index"]] = content
            elif kind == "text":
                sys.stdout.write(self._with_names(content))
                sys.stdout.flush()
            elif kind == "launch":
                self._pass_on(who, content)
            elif kind == "launched":
                asked_by = self._requests.pop(content["id"], None)
                if asked_by is not None:
                    self._line.send(asked_by, "launched", content)
            elif kind == "leaving":
                self._leaving.append(content)
                self._ended = self._ended or 1
            elif kind == "ended":
                self._ended = content if content >= 0 else 1

    def _pass_on(self, who: bytes, asked: dict[str, Any]) -> None:
        """Have the agent of the pod that ``mpirun`` names run a command."""
        index = self._hosts.get(asked["host"])
        if index is None:
            words = {"id": asked["id"], "code": 255, "text": f"there is no pod {asked['host']}\n"}
            self._line.send(who, "launched", words)
            return
        self._requests[asked["id"]] = who
        self._line.send(self._agents[index], "launch", {**asked, "environment": self._environment})

    def _with_names(self, text: str) -> str:
        """Return ``mpirun``'s output with pods' names for their addresses."""
        for address, index in self._hosts.items():
            text = text.replace(f"node {address} ", f"node {self._answers[index]['pod']} ")
        return text

    def _say_alive(self) -> None:
        if time.monotonic() - self._said > ALIVE_S:
            self._said = time.monotonic()
            for who in self._agents.values():
                self._line.send(who, "alive")
        for index, who in self._agents.items():
            if time.monotonic() - self._heard[who] > SILENT_S:
                pod = self._answers[index]["pod"]
                found = f"pod {pod} does not answer: its node is down, or its network"
                raise EaiError(found, "see `kubectl get nodes`", code="kube-pod-failed")

    # -- the pods -----------------------------------------------------------------------

    def _look(self) -> None:
        """Look the pods up, every second; end if one has ended or has waited for too long."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        try:
            states = self._states()
            words = "" if self._started else summary(states, self._pods)
            if not states and not self._started:
                words = self._words_of_no_pods()
        except EaiError as error:
            self._bear(error)
            return
        self._silent_since = None
        self._judge(states)
        phase = "starting" if self._started else "waiting"
        self._note(phase, words, [(state.name, state.words) for state in states])

    def _bear(self, error: EaiError) -> None:
        """Go on while the API server is away, or refuses everything, as one does that has just started.

        Cells need no API server, so a group that runs goes on; pods end with their lease if all is lost.
        """
        if error.code == "kube-pod-failed":
            raise error
        self._silent_since = self._silent_since or time.monotonic()
        silent = time.monotonic() - self._silent_since
        if error.code == "kube-refused" and silent > REFUSED_S and not self._started:
            raise error
        self._note(
            self._state.phase, f"no answer of the API server for {silent:.0f} s: {error.what}"
        )

    def _states(self) -> list[PodState]:
        found = {
            pod_index(pod): pod_state(pod, self._order.wait_s) for pod in self._api.pods(self._name)
        }
        for index, known in self._known.items():
            if index not in found and known.ended is None:
                found[index] = PodState(
                    known.name, "is gone", ended=f"pod {known.name} was deleted"
                )
        self._known.update(found)
        return [found[index] for index in sorted(found)]

    def _judge(self, states: list[PodState]) -> None:
        """Raise if a pod has ended, or has been for too long what it is."""
        ended = [state for state in states if state.ended]
        if ended:
            self._ended = self._ended or 1
            return
        for state in states:
            if state.is_running and not self._started:
                self._judge_silent(state)
            elif self._patience.is_over(state):
                more = self._more_of(state)
                waited = self._patience.waited(state.name, state.waits_for)
                passed = f" for {waited:.0f} s" if state.patience_s else ""
                found = f"pod {state.name} has not started{passed}: {state.words}{more}"
                raise EaiError(found, state.remedy, code="kube-pod-failed")

    def _judge_silent(self, state: PodState) -> None:
        """Raise if a pod that runs has not reported for too long."""
        waited = self._patience.waited(state.name, state.waits_for)
        index = next(i for i, known in self._known.items() if known is state)
        if index not in self._agents and waited > REPORT_S:
            words = self._api.last_line(state.name).removeprefix(OURS)
            found = f"pod {state.name} runs, but does not report ({words or 'no output'})"
            raise EaiError(found, "see `kubectl logs`", code="kube-pod-failed")

    def _more_of(self, state: PodState) -> str:
        if state.asks == "warning":
            found = self._api.last_warning(state.name)
        elif state.asks == "log":
            found = self._api.last_line(state.name) or self._api.last_line(
                state.name, previous=True
            )
        else:
            found = ""
        return f" ({found.removeprefix(OURS)})" if found else ""

    def _words_of_no_pods(self) -> str:
        """Return why there are no pods yet; a queue such as Kueue suspends a job until it admits it."""
        found = self._api.job(self._name)
        if found is None:
            raise EaiError(
                f"job {self._name} was deleted", "start the group again", code="kube-pod-failed"
            )
        if found["spec"].get("suspend"):
            self._patience.forget(self._name, "pods")
            return "the job waits for its queue (it is suspended)"
        words = self._api.last_warning(self._name) or "the pods are being made"
        if self._patience.waited(self._name, "pods") > self._order.wait_s:
            what = f"no pod was made in {self._order.wait_s:.0f} s ({words})"
            remedy = "see `kubectl describe job`; `--pod-wait` waits longer"
            raise EaiError(what, remedy, code="kube-pod-failed")
        return words

    # -- the end ------------------------------------------------------------------------

    def _explain_end(self) -> None:
        """Print why the group has ended, if it was because of a pod."""
        until = time.monotonic() + CAUSE_S
        while True:
            with contextlib.suppress(EaiError):
                states = self._states()
                if cause := self._cause_of(states):
                    _say(f"{OURS}{cause}")
                    return
            if not self._leaving or time.monotonic() > until:
                break
            time.sleep(TICK_S)
        for index in self._leaving[:1]:
            _say(f"{OURS}pod {self._answers[index]['pod']} was ended from outside")

    def _cause_of(self, states: list[PodState]) -> str | None:
        """Return of what the pods have ended, the first one first; its peers end with it."""
        ended = [state for state in states if state.ended]
        if not ended:
            return None
        first = [self._known.get(index) for index in self._leaving]
        if plain := next((state for state in first if state and state.ended), None):
            chosen = plain
        elif self._leaving:
            return None  # the API is yet to say what happens to the pod that was asked to leave
        else:
            by_itself = [state for state in ended if "was deleted" not in str(state.ended)]
            chosen = (by_itself or ended)[0]
        if chosen.asks == "log" and self._started and not self._leaving:
            return None  # the end of the ranks, which mpirun explains
        return f"{chosen.ended}{self._more_of(chosen)}"

    def _leave(self) -> None:
        """Delete the job, and wait until its pods are gone."""
        for who in self._agents.values():
            self._line.send(who, "end")
        if self._created:
            # Once more if the API is restarted just now; else the pods' lease ends them.
            until = time.monotonic() + GONE_S
            deleted = False
            while time.monotonic() < until:
                with contextlib.suppress(EaiError):
                    if not deleted:
                        self._api.delete_job(self._name)
                        deleted = True
                    if not self._api.pods(self._name):
                        break
                time.sleep(2 * TICK_S)
        self._note("over", "")
        self._line.close()

    def _note(self, phase: str, words: str, pods: list[tuple[str, str]] | None = None) -> None:
        state = PodsState(self._name, phase, words, self._state.pods if pods is None else pods)
        if state != self._state or not self._file.exists():
            self._state = state
            with contextlib.suppress(OSError):
                state.write(self._file)


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the order in the file that the first argument names."""
    order = PodOrder(**json.loads(Path(sys.argv[1]).read_text()))
    stopped = threading.Event()
    # Before the job exists: a signal must find it, and not end this process without it.
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        runner = PodRunner(order)
    except EaiError as error:
        _say(f"{OURS}{error.what}")
        sys.exit(1)
    runner.stopped = stopped
    sys.exit(runner.run())


if __name__ == "__main__":
    main()
