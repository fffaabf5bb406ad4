"""The group options of a job, which replace those that its notebook gives to `%eai up`.

So one notebook runs interactively and as a job. They come by an environment variable of the kernel.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any, Final

VARIABLE: Final = "EAI_GROUP"


@dataclass(frozen=True)
class GroupOverride:
    """What replaces the notebook's options; None leaves them.

    Attributes:
        size: How many ranks.
        options: Where they run: all of the launcher's options.
    """

    size: int | None = None
    options: dict[str, Any] | None = None

    def variables(self) -> dict[str, str]:
        """Return the kernel's environment variable."""
        return {VARIABLE: json.dumps(asdict(self))}

    def apply(self, size: int | None, options: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        """Return the size and the options of a group, where the notebook gives `size` and `options`.

        Examples:
            >>> GroupOverride(size=4).apply(2, {"hosts": "h1:2"})
            (4, {'hosts': 'h1:2'})
            >>> GroupOverride(options={"slurm": True}).apply(2, {"hosts": "h1:2"})
            (2, {'slurm': True})
        """
        return self.size or size, options if self.options is None else dict(self.options)


def group_override() -> GroupOverride:
    """Return what the environment of this kernel asks for; nothing in a notebook that is no job."""
    text = os.environ.get(VARIABLE)
    return GroupOverride(**json.loads(text)) if text else GroupOverride()
