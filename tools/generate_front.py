"""Write the constants that Python and TypeScript share into ``labextension/src/generated.ts``.

Python has them, since the static chart and the kernel need them without a front end.
``tools/generate_front.py`` writes the file; `tests/unit/test_front_end.py` checks that it is up
to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from eai_notebook.compression.wire_registry import wire_names
from eai_notebook.display import (
    axis,
    control_buttons,
    heat_map,
    live_run,
    palette,
    panel_channel,
    static_html,
    summary_lines,
    training_html,
)

TARGET: Final = Path(__file__).resolve().parents[1] / "labextension" / "src" / "generated.ts"

CONSTANTS: Final[list[tuple[str, Any, str]]] = [
    ("PUSH_TARGET", panel_channel.PUSH_TARGET, "Target of the comm on which the kernel sends."),
    ("PUSH_ID", panel_channel.PUSH_ID, "Its fixed id."),
    ("CONTROL_TARGET", panel_channel.CONTROL_TARGET, "Target of the comm for commands."),
    ("RUN_MIME", live_run.RUN_MIME, "Type of the output of a cell whose run goes on."),
    ("WIRES", wire_names(), "Formats that gradients can travel in; the first is the default."),
    ("MOST_RANKS", control_buttons.MOST_RANKS, "The most ranks that the form starts."),
    ("COLOURS", palette.COLOURS, "Colour of each part, the same in every display."),
    ("MEANINGS", palette.MEANINGS, "What each part of a step is."),
    ("UNMEASURED", palette.UNMEASURED, "The outline around time that no part explains."),
    ("WAITS", summary_lines.WAITS, "Words for the parts that are waiting."),
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
    ("VALIDATION_COLOUR", training_html.HELD_OUT, "A metric on the validation data."),
]

_HEAD: Final = (
    "/** Constants that Python has, too. Made by `tools/generate_front.py`: change them there. */\n"
)


def generated() -> str:
    """Return the text of the file."""
    return _HEAD + "".join(_constant(*each) for each in CONSTANTS)


def _constant(name: str, value: Any, meaning: str) -> str:
    """Return the lines of a constant as Prettier leaves them."""
    if isinstance(value, dict):
        lines = ",\n".join(f"  {key}: {_literal(each)}" for key, each in value.items())
        body = f": Readonly<Record<string, string>> = {{\n{lines}\n}}"
    elif isinstance(value, tuple):
        body = f" = [{', '.join(map(_literal, value))}] as const"
    else:
        body = f" = {_literal(value)}"
    return f"\n/** {meaning} */\nexport const {name}{body};\n"


def _literal(value: str | float) -> str:
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
