"""Storage clients, configured by the same environment variables as their vendors' tools."""

from __future__ import annotations

import importlib
import os
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from eai_notebook.errors import EaiError

CONNECT_S: Final = 5
READ_S: Final = 20
"""Seconds after which a try fails if the server does not respond."""

# The module that a scheme needs besides fsspec, and the extra that installs it.
_EXTRAS: Final = {
    "hdfs": ("hdfs_native", "hdfs"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
}


def client_of(scheme: str, host: str) -> Any:
    """Return a scheme's client, with fsspec's interface.

    Args:
        scheme: The scheme, such as ``s3``.
        host: ``host:port`` of an HDFS name node, else empty.

    Raises:
        EaiError: It needs a package that is not installed, or there is no client.
    """
    module, extra = _EXTRAS.get(scheme, ("", ""))
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            broken = "" if error.name == module else f", which cannot be imported ({error})"
            raise EaiError(
                f"{scheme}:// needs the package {module.replace('_', '-')}{broken}",
                f"`pip install 'eai_notebook[{extra}]'`, on every host",
                code="package-missing",
            ) from None
        except ImportError as error:
            raise EaiError(
                f"the package {module} for {scheme}:// is installed but its import fails ({error})",
                f"run `import {module}` and read its error",
                code="package-broken",
            ) from None
    if scheme in {"s3", "gs", "oss"}:
        from fsspec.implementations.arrow import ArrowFSWrapper

        return ArrowFSWrapper({"s3": _s3, "gs": _gs, "oss": _oss}[scheme]())
    if scheme == "hdfs":
        return _hdfs(host)
    return _other(scheme, host)


def _s3() -> Any:
    """Return Amazon's storage, or a compatible one at `AWS_ENDPOINT_URL`."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return _by_s3()
    parts = urlsplit(endpoint)
    return _by_s3(endpoint_override=parts.netloc, scheme=parts.scheme)


def _by_s3(**options: Any) -> Any:
    from pyarrow import fs

    return fs.S3FileSystem(
        connect_timeout=CONNECT_S,
        request_timeout=READ_S,
        # `with_retries` retries and prints each retry.
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        **options,
    )


def _oss() -> Any:
    """Return Alibaba's storage, through its S3 interface."""
    endpoint = os.environ.get("OSS_ENDPOINT")
    if not endpoint:
        raise EaiError(
            "oss:// needs the environment variable OSS_ENDPOINT",
            "set it, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET before the group starts",
            code="environment-invalid",
        )
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    return _by_s3(
        endpoint_override=parts.netloc,
        scheme=parts.scheme,
        region=os.environ.get("OSS_REGION", "oss"),
        access_key=os.environ.get("OSS_ACCESS_KEY_ID"),
        secret_key=os.environ.get("OSS_ACCESS_KEY_SECRET"),
        # A bucket's name is part of the host's name, unless the host is an IP address.
        force_virtual_addressing=not parts.hostname.replace(".", "").isdigit()
        if parts.hostname
        else True,
    )


def _gs() -> Any:
    """Return Google's storage, or an emulator at `STORAGE_EMULATOR_HOST`."""
    from pyarrow import fs

    # By default it retries silently for 15 minutes; `with_retries` does it and prints.
    limit = timedelta(seconds=CONNECT_S)
    endpoint = os.environ.get("STORAGE_EMULATOR_HOST")
    if not endpoint:
        return fs.GcsFileSystem(retry_time_limit=limit)
    parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    return fs.GcsFileSystem(
        anonymous=True,
        endpoint_override=parts.netloc,
        scheme=parts.scheme,
        retry_time_limit=limit,
    )


def _hdfs(host: str) -> Any:
    from hdfs_native import fsspec as native

    name, _, port = host.partition(":")
    client = native.HdfsFileSystem(
        host=name or None,
        port=int(port) if port else None,
        # By default, an unreachable name node blocks for three minutes.
        **{"dfs.client.failover.max.attempts": "1"},
    )
    client.eai_host = host
    return client


def _other(scheme: str, host: str) -> Any:
    import fsspec

    options: dict[str, Any] = {}
    if scheme in {"http", "https"}:
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
        from eai_notebook.io.sources.http import RangeReader

        return RangeReader(client_kwargs={"timeout": timeout})
    if scheme == "webhdfs":
        name, _, port = host.partition(":")
        options = {"host": name, "port": int(port or 9870)}
    try:
        client = fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise EaiError(
            f"{scheme}:// cannot be read ({error})",
            "use a path, hdfs://, s3://, oss://, gs:// or http(s)://, or install fsspec's client",
            code="scheme-unsupported",
        ) from None
    if scheme == "webhdfs":
        client.eai_host = host
    return client
