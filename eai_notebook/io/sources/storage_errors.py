"""Classify storage errors: transient ones, and those that the user must repair.

Every client has exceptions and messages of its own for the same few causes.
"""

from __future__ import annotations

import errno
import re
from typing import Final

from eai_notebook.errors import EaiError
from eai_notebook.io.sources.urls import scheme_of

_TRANSIENT: Final = {
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
"""Transient on network file systems; a local disk's EIO remains, and is reported after the retries."""

_CLIENTS: Final = {"aiohttp", "asyncio", "botocore", "fsspec", "hdfs_native", "requests", "urllib3"}
_GOOGLE: Final = "google::cloud::Status"
"""In the message of pyarrow's exceptions for Google's storage, which have no class of their own."""
_DENIED: Final = re.compile(
    r"ACCESS_DENIED|AccessDenied|\b40[13]\b|Forbidden|Unauthorized|[Pp]ermission denied"
    r"|credential|OAuth2 access token|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|AccessControlException"
)
_MISSING: Final = re.compile(
    r"NO_SUCH_(BUCKET|KEY)|RESOURCE_NOT_FOUND|\b404\b|[Nn]ot [Ff]ound|does not exist"
)
_CLIENT_ERRORS: Final = range(400, 500)  # HTTP statuses that a retry does not change ...
_RETRY_LATER: Final = {408, 425, 429}  # ... except for these
_MAX_SHOWN: Final = 200  # characters of a client's message


def is_storage_fault(error: Exception) -> bool:
    """Return whether an exception comes from a storage, and not from a fault of the program."""
    module = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, (OSError, TimeoutError))
        or module in _CLIENTS
        or (module == "pyarrow" and _GOOGLE in str(error))
    )


def is_transient(error: Exception, url: str) -> bool:
    """Return whether a retry may help."""
    if _is_missing(error) or _is_denied(error):
        return False
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return False
    if not scheme_of(url):
        return getattr(error, "errno", None) in _TRANSIENT
    status = getattr(error, "status", None)
    return status not in _CLIENT_ERRORS or status in _RETRY_LATER


def describe_fault(error: Exception, url: str, tries: int) -> EaiError:
    """Return the error for the user: file, cause and remedy."""
    where = "there" if not scheme_of(url) else "there, and its address and endpoint"
    if _is_missing(error):
        return EaiError(
            f"{url} cannot be read ({_message(error)})",
            f"check that it is still {where}, and that every host can read it",
            code="storage-failed",
        )
    if _is_denied(error):
        remedy = "check the credentials of this rank" if scheme_of(url) else "give permission"
        return EaiError(
            f"{url} cannot be read: permission denied ({_message(error)})",
            f"{remedy}, on every host",
            code="file-not-readable",
        )
    after = f" after {tries} tries" if tries > 1 else ""
    return EaiError(
        f"{url} cannot be read{after} ({_message(error)})",
        f"check that it is still {where}, and that every host can read it",
        code="storage-failed",
    )


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or (
        not isinstance(error, ConnectionError) and bool(_MISSING.search(str(error)))
    )


def _is_denied(error: Exception) -> bool:
    return isinstance(error, PermissionError) or bool(_DENIED.search(str(error)))


def _message(error: Exception) -> str:
    """Return a client's message as one short line."""
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = " ".join(str(message).split())
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."
