"""Write the constants that Python and TypeScript share into ``labextension/src/generated.ts``.

Python has them, since the static chart and the kernel need them without a front end.
``tools/generate_front.py`` writes the file; `tests/unit/test_front_end.py` checks that it is up
to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, get_args

from eai_notebook.compression.wire_registry import wire_names
from eai_notebook.display import (
    axis,
    control_buttons,
    heat_map,
    live_run,
    palette,
    panel_channel,
    static_html,
    training_html,
)
from eai_notebook.ledger.ledger_part import Activity
from eai_notebook.ledger.parts import BUILT_IN

TARGET: Final = Path(__file__).resolve().parents[1] / "labextension" / "src" / "generated.ts"

CONSTANTS: Final[list[tuple[str, Any, str]]] = [
    ("PUSH_TARGET", panel_channel.PUSH_TARGET, "Target of the comm on which the kernel sends."),
    ("PUSH_ID", panel_channel.PUSH_ID, "Its fixed id."),
    ("CONTROL_TARGET", panel_channel.CONTROL_TARGET, "Target of the comm for commands."),
    ("RUN_MIME", live_run.RUN_MIME, "Type of the output of a cell whose run goes on."),
    ("WIRES", wire_names(), "Formats that gradients can travel in; the first is the default."),
    ("MOST_RANKS", control_buttons.MOST_RANKS, "The most ranks that the form starts."),
    ("UNMEASURED", palette.UNMEASURED, "The outline around time that no part explains."),
    ("FEWEST_SLOTS", axis.FEWEST_SLOTS, "Steps that the axis of a short run has room for."),
    ("USUAL_SHARE", axis.USUAL_SHARE, "This share of the bars is at most as long as a usual one."),
    ("LONG", axis.LONG, "A bar so many times longer than a usual one is cut."),
    ("HEADROOM", axis.HEADROOM, "The axis is then so many times a usual bar."),
    ("MOST_THICK", static_html.MOST_THICK, "Ranks that get a bar with a label each."),
    ("RANKS_HEIGHT", static_html.RANKS_HEIGHT, "Pixels that the bars of more ranks share."),
    ("HEAT_SCALE", heat_map.SCALE, "Evenly spaced colours from the shortest to the longest."),
    ("HEAT_ROW", heat_map.ROW, "Height of a rank's row, in pixels."),
    ("LEAST_HEAT", heat_map.LEAST, "The least height of all rows together."),
    ("MOST_HEAT", heat_map.MOST, "The most height of all rows together."),
    ("MOST_PIXELS", heat_map.MOST_PIXELS, "Of the heat map's picture, across."),
    ("MOST_CURVES", training_html.MOST_CURVES, "Metrics that get a curve."),
    ("CURVE_WIDE", training_html.WIDE, "Width of a curve, in its own units."),
    ("CURVE_TALL", training_html.TALL, "Height of a curve, in its own units."),
    ("TRAINING_COLOUR", training_html.LOSS, "A metric on the training data."),
    ("OVERLAY", palette.OVERLAY, "Of runs that are shown together."),
    ("RATE_COLOUR", training_html.RATE_COLOUR, "The throughput of all ranks."),
    ("FEWEST_POINTS", training_html.FEWEST_POINTS, "Of a curve of the throughput."),
    ("VALIDATION_COLOUR", training_html.HELD_OUT, "A metric on the validation data."),
]

_HEAD: Final = (
    "/** Constants that Python has, too. Made by `tools/generate_front.py`: change them there. */\n"
)


def generated() -> str:
    """Return the text of the file."""
    return _HEAD + "".join(_constant(*each) for each in CONSTANTS) + _parts()


def _parts() -> str:
    """Return how the package's parts are drawn; installed ones come with each run's view."""
    styles = {part.name: part.style() for part in BUILT_IN}
    fields = ";\n".join(f"  {name}: {kind}" for name, kind in _STYLE.items())
    bodies = []
    for name, style in styles.items():
        lines = ",\n".join(f"    {key}: {_field(style[key])}" for key in _STYLE)
        bodies.append(f"  {name}: {{\n{lines}\n  }}")
    return (
        f"\n/** How a part is drawn and named. */\nexport interface PartStyle {{\n{fields};\n}}\n"
        "\n/** The parts of a step. */\nexport const PARTS: Readonly<Record<string, PartStyle>> = {\n"
        + ",\n".join(bodies)
        + "\n};\n"
    )


def _field(value: Any) -> str:
    """Return a field as Prettier leaves it: several lines of a texture below each other."""
    if isinstance(value, list) and len(value) > 1:
        return "[\n" + ",\n".join(f"      {_literal(each)}" for each in value) + "\n    ]"
    return _literal(value)


_STYLE: Final = {
    "colour": "string",
    "meaning": "string",
    "letter": "string",
    "texture": "readonly (readonly [number, number, number, number])[]",
    "doing": "string",
    "activity": " | ".join(f"'{each}'" for each in get_args(Activity)),
    "wait": "string",
    "needs_peers": "boolean",
}
"""Fields of `LedgerPart.style`, and their types in TypeScript."""


def _constant(name: str, value: Any, meaning: str) -> str:
    """Return the lines of a constant as Prettier leaves them."""
    if isinstance(value, tuple):
        body = f" = [{', '.join(map(_literal, value))}] as const"
    else:
        body = f" = {_literal(value)}"
    return f"\n/** {meaning} */\nexport const {name}{body};\n"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and not {"'", '"', "\\"} & set(value):
        return f"'{value}'"
    return text


def main() -> int:
    """Write the file if it is not up to date."""
    text = generated()
    if not TARGET.exists() or TARGET.read_text() != text:
        TARGET.write_text(text)
        sys.stdout.write(f"wrote {TARGET}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
