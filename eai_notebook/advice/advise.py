"""List the remedies for a run's losses, each with the gain that is expected of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.advice.expected_gain import Gain, gain
from eai_notebook.advice.remedy_models import models
from eai_notebook.errors import EaiError
from eai_notebook.ledger.followed_run import read_run
from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.verdict import losses_of, verdict_of

if TYPE_CHECKING:
    from eai_notebook.advice.remedy_models import Model
    from eai_notebook.ledger.facts import Facts, Finding
    from eai_notebook.ledger.run_record import RunRecord

MOST: Final = 3
"""Remedies for a loss."""


@dataclass(frozen=True)
class Remedy:
    """Something to try: in words, what it is expected to gain, and for which loss it is.

    ``keeps_results`` is whether the training computes the same numbers with it. ``setting`` is the
    knob that it turns and the value, None where the program must change.
    """

    words: str
    gain: Gain
    loss: str
    keeps_results: bool
    setting: tuple[str, int] | None = None

    def change(self) -> dict[str, Any]:
        """Return what ranks need to try it in a running training.

        Raises:
            EaiError: It changes the program, which only its author can.
        """
        if self.setting is None:
            raise EaiError(
                f"no running training can try {self.words!r}: it changes the program",
                "change it, train again, and compare the two runs in the panel",
                code="not-tryable",
            )
        knob, value = self.setting
        gain = self.gain
        expected = {"expected": gain.expected, "low": gain.low, "high": gain.high}
        return {"knob": knob, "value": value, "words": self.words, **expected}


@dataclass(frozen=True)
class Advice:
    """The remedies for a run, the losses in order of what they cost; `to_text` is for people.

    ``step`` is the mean length of a typical step in seconds.
    """

    verdict: str
    step: float
    remedies: tuple[Remedy, ...]
    unmodelled: tuple[str, ...]

    def to_text(self) -> str:
        """Return the remedies as numbered lines."""
        lines = [self.verdict]
        if not self.remedies and not self.unmodelled:
            return "\n".join([*lines, "", "no loss is worth a remedy"])
        for number, each in enumerate(self.remedies, 1):
            rest = max(self.step - each.gain.expected, 0.0)
            changes = "" if each.keeps_results else " · changes results"
            less = (
                f"{ms(each.gain.expected)} a step less ({ms(each.gain.low)} to "
                f"{ms(each.gain.high)}), {ms(self.step)} -> {ms(rest)}"
            )
            lines += ["", f"{number}  {each.words}"]
            if each.setting is not None:
                changes += f" · `%eai try {number}`"
            lines += [f"   expected: {less}, against {each.loss}{changes}"]
        if self.unmodelled:
            lines += ["", f"of unknown gain: {'; '.join(self.unmodelled)}"]
        return "\n".join(lines)


def advise(facts: Facts) -> Advice:
    """Return the remedies for the losses that are worth naming; at most `MOST` for each.

    A remedy whose effect on a step is not known is named without a number.
    """
    remedies: list[Remedy] = []
    unmodelled: list[str] = []
    for finding in losses_of(facts):
        known = [_remedy(facts, finding, model) for model in models(facts, finding)]
        known = _best(sorted((each for each in known if each.gain.expected > 0), key=_by_gain))
        remedies += known
        if not known:
            unmodelled += finding.tries[:MOST]
    words = list(dict.fromkeys(unmodelled))
    return Advice(verdict_of(facts).sentence, facts.step, tuple(_distinct(remedies)), tuple(words))


def remedy(advice: Advice, number: int, words: str | None = None) -> Remedy:
    """Return a remedy by the number that `Advice.to_text` gives it.

    While a run goes on its advice changes: ``words`` are what the remedy was when it was chosen.

    Raises:
        EaiError: There is none.
    """
    if words is not None:
        chosen = next((each for each in advice.remedies if each.words == words), None)
    else:
        known = 1 <= number <= len(advice.remedies)
        chosen = advice.remedies[number - 1] if known else None
    if chosen is None:
        raise EaiError(
            f"there is no remedy {number}", "`%eai advise` lists them", code="remedy-unknown"
        )
    return chosen


def advise_record(record: RunRecord) -> Advice:
    """Return the remedies for a run on disk."""
    return advise(read_run(record).facts())


def advice_model(record: RunRecord) -> dict[str, Any]:
    """Return the remedies for a run on disk as JSON, for the panel; lengths in milliseconds."""
    advice = advise_record(record)
    return {
        "run": record.info.run,
        "verdict": advice.verdict,
        "step_ms": _number(advice.step),
        "remedies": [
            {
                "number": number,
                "words": each.words,
                "loss": each.loss,
                "expected_ms": _number(each.gain.expected),
                "low_ms": _number(each.gain.low),
                "high_ms": _number(each.gain.high),
                "keeps_results": each.keeps_results,
                "can_try": each.setting is not None,
            }
            for number, each in enumerate(advice.remedies, 1)
        ],
        "unmodelled": list(advice.unmodelled),
    }


def _number(seconds: float) -> float | None:
    """Return seconds as milliseconds, which JSON has; None for NaN."""
    return float(f"{1e3 * seconds:.4g}") if math.isfinite(seconds) else None


def _best(known: list[Remedy]) -> list[Remedy]:
    """Return the first `MOST`, one of them a remedy that can be tried at once, if there is one."""
    best, rest = known[:MOST], known[MOST:]
    tryable = next((each for each in rest if each.setting is not None), None)
    if tryable is not None and all(each.setting is None for each in best):
        best[-1] = tryable
    return best


def _by_gain(remedy: Remedy) -> float:
    return -remedy.gain.expected


def _distinct(remedies: list[Remedy]) -> list[Remedy]:
    """Return each remedy once, for the loss against which it gains most."""
    best: dict[str, Remedy] = {}
    for each in sorted(remedies, key=_by_gain):
        best.setdefault(each.words, each)
    return [each for each in remedies if best[each.words] is each]


def _remedy(facts: Facts, finding: Finding, model: Model) -> Remedy:
    limit = finding.share * facts.step
    loss = (
        f"`{finding.kind}`" if finding.rank is None else f"`{finding.kind}` for rank {finding.rank}"
    )
    found = gain(model.by_step, model.effect, limit)
    return Remedy(model.words, found, loss, model.keeps_results, model.setting)
