"""Answer the kernel's requests while a cell runs, in a thread on the control channel."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from eai_notebook.collective import newcomers
from eai_notebook.engine import armed_trial, stack_location, stall_reports
from eai_notebook.engine.step_digest import StepDigest
from eai_notebook.engine.step_profiler import DeepTrace, pace
from eai_notebook.telemetry import messages, stop_request
from eai_notebook.telemetry.messages import (
    DIGEST_REQUEST,
    GROW_REQUEST,
    STOP_REQUEST,
    TENSORS_REQUEST,
    TRACE_REQUEST,
    TRIAL_REQUEST,
    WHERE_REQUEST,
)


def install(kernel: Any, world_rank: int) -> None:
    """Have `kernel` answer, from now on, where this rank is, and record steps in depth."""
    deep = DeepTrace(world_rank)

    def where(stream: Any, idents: Any, request: Any) -> None:
        found = stack_location.current_location(world_rank, kernel.shell.user_ns)
        content = {"status": "ok", "where": None if found is None else asdict(found)}
        kernel.session.send(stream, "eai_where_reply", content, parent=request, ident=idents)

    def trace(stream: Any, idents: Any, request: Any) -> None:
        """Say how fast the steps go, or record some if they are named."""
        asked = request["content"]
        if "first" in asked:
            deep.ask(int(asked["first"]), int(asked["steps"]))
        content = {"status": "ok", "pace": None if "first" in asked else pace()}
        kernel.session.send(stream, "eai_trace_reply", content, parent=request, ident=idents)

    def tensors(stream: Any, idents: Any, request: Any) -> None:
        """Say which tensors are missing in the ring, if this rank coordinates it."""
        found = stall_reports.latest()
        content: dict[str, Any] = {"status": "ok", "age": None}
        if found is not None:
            age, report = found
            missing = {str(rank): list(tensors) for rank, tensors in report.missing.items()}
            content |= {"age": age, "ring": list(report.ring), "missing": missing}
        kernel.session.send(stream, "eai_tensors_reply", content, parent=request, ident=idents)

    def grow(stream: Any, idents: Any, request: Any) -> None:
        """Start a newcomer if a command is given; say how that goes, and whether it can join."""
        asked = request["content"]
        number = int(asked["number"])
        if "command" in asked:
            newcomers.start(number, asked["command"])
        content: dict[str, Any] = {"status": "ok", "is_welcome": newcomers.are_welcome()}
        content["failure"] = newcomers.failure(number)
        kernel.session.send(stream, "eai_grow_reply", content, parent=request, ident=idents)

    kernel.control_handlers[GROW_REQUEST] = grow

    def stop(stream: Any, idents: Any, request: Any) -> None:
        """Have the training that goes on, or the next one, end at a checkpoint."""
        stop_request.ask()
        content = {"status": "ok"}
        kernel.session.send(stream, "eai_stop_reply", content, parent=request, ident=idents)

    def trial(stream: Any, idents: Any, request: Any) -> None:
        """Have the training that goes on try a change; say whether there is one."""
        armed_trial.arm(request["content"]["change"])
        content = {"status": "ok", "trains": messages.steps_taken() is not None}
        kernel.session.send(stream, "eai_trial_reply", content, parent=request, ident=idents)

    kernel.control_handlers[TRIAL_REQUEST] = trial
    kernel.control_handlers[STOP_REQUEST] = stop
    kernel.control_handlers[WHERE_REQUEST] = where
    kernel.control_handlers[TENSORS_REQUEST] = tensors
    kernel.control_handlers[TRACE_REQUEST] = trace
    _install_digest(kernel, StepDigest(world_rank))


def _install_digest(kernel: Any, compared: StepDigest) -> None:
    def digest(stream: Any, idents: Any, request: Any) -> None:
        """Say how fast the steps go, or compare a variable at the end of one if it is named."""
        asked = request["content"]
        if "name" in asked:
            compared.ask(int(asked["number"]), str(asked["name"]), asked.get("step"))
        content = {"status": "ok", "pace": None if "name" in asked else pace()}
        kernel.session.send(stream, "eai_digest_reply", content, parent=request, ident=idents)

    kernel.control_handlers[DIGEST_REQUEST] = digest
