"""The scheme of a path or URL."""

from __future__ import annotations

import re

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


def scheme_of(url: str) -> str:
    """Return the scheme of a URL; empty for a path.

    Examples:
        >>> scheme_of("S3://bucket/file"), scheme_of("/data/a.tsv")
        ('s3', '')
    """
    found = _URL.match(url)
    return found[1].lower() if found else ""
