"""The ledger part `augment`: what a training measures with ``eai.section("augment")``.

An example of a ledger part in a package of its own.
"""

from __future__ import annotations

from eai_notebook.ledger.ledger_part import LedgerPart

AUGMENT = LedgerPart(
    name="augment",
    meaning="changing the batch in Python before the step",
    colour="#56B4E9",
    letter="a",
    derive=lambda steps: steps["augment"],
    columns=("augment",),
    texture=((-1, 3, 9, 3),),
    does="changes its batch in Python",
    remedies=("change batches in the dataset's `map`, in parallel",),
)
