"""Remedies for an image that a node cannot pull, by the words of its container runtime."""

from __future__ import annotations

import re
from typing import Final

_REMEDIES: Final = (
    (
        r"ErrImageNeverPull|pull policy",
        "`imagePullPolicy: Never` in pods.yaml: bring the image to all nodes, or let them pull it",
    ),
    (
        r"InvalidImageName|invalid reference format",
        "correct the image's name, in pods.yaml or `--image`",
    ),
    (r"no match for platform|exec format", "build the image for the nodes' processor"),
    (
        r"toomanyrequests|too many requests|\b429\b",
        "the registry limits pulls without an account: name one in pods.yaml, `imagePullSecrets`",
    ),
    # A registry that wants an account also answers so for names that it does not have.
    (
        r"\b40[13]\b|unauthorized|forbidden|denied|authorization failed|authentication required",
        "see the image's name, and name an account that may pull it in pods.yaml: `imagePullSecrets`",
    ),
    (
        r"not found|manifest unknown|name unknown|\b404\b",
        "the registry has no such image: correct its name or tag, or push it",
    ),
    (
        r"no such host|time(d )?out|refused|unreachable|reset by peer|no route|EOF|x509|to HTTPS client",
        "the node does not reach the registry: see its name, and the node's network, proxy and certificates",
    ),
    (r"no space left", "the node's disk is full: free it, or use a smaller image"),
)
_ELSE: Final = "see the image's name in pods.yaml, and whether nodes may pull it"


def remedy(words: str) -> str:
    """Return what to do; ``words`` are the reason and message of a container that waits.

    Examples:
        >>> remedy('ErrImagePull (failed to resolve reference "r/train:2": r/train:2: not found)')
        'the registry has no such image: correct its name or tag, or push it'
    """
    return next(
        (text for pattern, text in _REMEDIES if re.search(pattern, words, re.IGNORECASE)), _ELSE
    )
