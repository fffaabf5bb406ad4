"""Which of the notebook's environment variables pods get."""

from __future__ import annotations

import os

from eai_notebook.cluster.forwarding import KNOWN, MORE, SEARCH_PATHS, extra_names
from eai_notebook.collective.backend_registry import forwarded_names


def settings_for_pods() -> dict[str, str]:
    """Return the part of this environment that pods get: settings with known names, none of its paths."""
    names = KNOWN | forwarded_names() | extra_names(os.environ.get(MORE, ""))
    return {
        name: value
        for name, value in os.environ.items()
        if name in names and name not in SEARCH_PATHS
    }
