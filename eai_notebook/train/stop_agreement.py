"""All ranks find out at the same step that one of them was asked to end at a checkpoint."""

from __future__ import annotations

from typing import Final

from eai_notebook.telemetry import stop_request
from eai_notebook.train.periodic_agreement import PeriodicAgreement

EVERY_S: Final = 1.0


def stop_agreement() -> PeriodicAgreement:
    """Return the agreement of one training: ranks ask each other about once a second."""
    return PeriodicAgreement(stop_request.is_asked, lambda: EVERY_S)
