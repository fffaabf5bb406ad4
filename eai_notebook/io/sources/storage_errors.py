"""Classify storage errors: transient ones, and those that the user must mend.

Every client has its own exceptions and its own texts for the same few things.
"""

from __future__ import annotations

import errno
import re
from typing import Final

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.storage import scheme_of

_PASSING: Final = {
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.EINTR,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EREMOTEIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
"""Of a file system mounted from elsewhere. Of a disk, an EIO does not pass: then it is told."""

_CLIENTS: Final = {"aiohttp", "asyncio", "botocore", "fsspec", "hdfs_native", "requests", "urllib3"}
_GOOGLE: Final = "google::cloud::Status"
"""In the text of what pyarrow raises, of no kind of its own, for Google's storage."""
_DENIED: Final = re.compile(
    r"ACCESS_DENIED|AccessDenied|\b40[13]\b|Forbidden|Unauthorized|[Pp]ermission denied"
    r"|credential|OAuth2 access token|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|AccessControlException"
)
_MISSING: Final = re.compile(
    r"NO_SUCH_(BUCKET|KEY)|RESOURCE_NOT_FOUND|\b404\b|[Nn]ot [Ff]ound|does not exist"
)
_OWN_REQUEST: Final = range(400, 500)  # the HTTP answers that the same request gets again ...
_TOO_EARLY: Final = {408, 425, 429}  # ... but for these
_LONGEST: Final = 200  # characters of a client's text that are shown


def is_storage_fault(error: Exception) -> bool:
    """Return whether a storage has failed, and not the program."""
    module = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, (OSError, TimeoutError))
        or module in _CLIENTS
        or (module == "pyarrow" and _GOOGLE in str(error))
    )


def is_passing(error: Exception, url: str) -> bool:
    """Return whether trying again may help."""
    if _is_missing(error) or _is_denied(error):
        return False
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return False
    if not scheme_of(url):
        return getattr(error, "errno", None) in _PASSING
    status = getattr(error, "status", None)
    return status not in _OWN_REQUEST or status in _TOO_EARLY


def describe_fault(error: Exception, url: str, tries: int) -> EaiError:
    """Return the error for the user: file, what happened, remedy."""
    where = "there" if not scheme_of(url) else "there, and its address and endpoint"
    if _is_missing(error):
        return EaiError(
            f"{url} cannot be read ({_text(error)})",
            f"check that it is still {where}, and that every host sees it",
            code="storage-failed",
        )
    if _is_denied(error):
        remedy = "check the credentials this rank has" if scheme_of(url) else "allow it"
        return EaiError(
            f"{url} may not be read ({_text(error)})",
            f"{remedy}, on every host",
            code="file-not-readable",
        )
    after = f" after {tries} tries" if tries > 1 else ""
    return EaiError(
        f"{url} cannot be read{after} ({_text(error)})",
        f"check that it is still {where}, and that every host sees it",
        code="storage-failed",
    )


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or (
        not isinstance(error, ConnectionError) and bool(_MISSING.search(str(error)))
    )


def _is_denied(error: Exception) -> bool:
    return isinstance(error, PermissionError) or bool(_DENIED.search(str(error)))


def _text(error: Exception) -> str:
    """Return a client's text in one short line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
