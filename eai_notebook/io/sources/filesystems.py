"""Storage clients, configured from the environment as their vendors' tools are."""

from __future__ import annotations

import importlib
import os
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from eai_notebook.errors import EaiError

CONNECT_S: Final = 5
ANSWER_S: Final = 20
"""Seconds after which a server that does not answer counts as gone, for this try."""

# What a scheme needs besides fsspec: the module to try, and the extra that brings it.
_EXTRAS: Final = {
    "hdfs": ("hdfs_native", "hdfs"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
}


def client_of(scheme: str, place: str) -> Any:
    """Return a scheme's client, with fsspec's face.

    Raises:
        EaiError: It needs a package that is not installed, or there is none.
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
            what = f"the package {module} for {scheme}:// is there and cannot be imported ({error})"
            raise EaiError(
                what, f"see what `import {module}` says", code="package-broken"
            ) from None
    if scheme in {"s3", "gs", "oss"}:
        from fsspec.implementations.arrow import ArrowFSWrapper

        return ArrowFSWrapper({"s3": _s3, "gs": _gs, "oss": _oss}[scheme]())
    if scheme == "hdfs":
        return _hdfs(place)
    return _any_other(scheme, place)


def _s3() -> Any:
    """Return Amazon's storage, or one with its interface at `AWS_ENDPOINT_URL`."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return _by_s3()
    parts = urlsplit(endpoint)
    return _by_s3(endpoint_override=parts.netloc, scheme=parts.scheme)


def _by_s3(**options: Any) -> Any:
    from pyarrow import fs

    return fs.S3FileSystem(
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        # Trying again is done here, where one sees it.
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        **options,
    )


def _oss() -> Any:
    """Return Alibaba's storage, by its S3 interface."""
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
        # Their names are part of the host's name, but where the host is a plain address.
        force_virtual_addressing=not parts.hostname.replace(".", "").isdigit()
        if parts.hostname
        else True,
    )


def _gs() -> Any:
    """Return Google's storage, or one with its interface at `STORAGE_EMULATOR_HOST`."""
    from pyarrow import fs

    # Left alone it tries again for a quarter of an hour, unseen; that is done here.
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


def _hdfs(place: str) -> Any:
    from hdfs_native import fsspec as native

    host, _, port = place.partition(":")
    client = native.HdfsFileSystem(
        host=host or None,
        port=int(port) if port else None,
        # A name node that is gone would else hold everything up for three minutes.
        **{"dfs.client.failover.max.attempts": "1"},
    )
    client.eai_place = place
    return client


def _any_other(scheme: str, place: str) -> Any:
    import fsspec

    options: dict[str, Any] = {}
    if scheme in {"http", "https"}:
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S)
        from eai_notebook.io.sources.http import RangeReader

        return RangeReader(client_kwargs={"timeout": timeout})
    if scheme == "webhdfs":
        host, _, port = place.partition(":")
        options = {"host": host, "port": int(port or 9870)}
    try:
        client = fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise EaiError(
            f"{scheme}:// cannot be read ({error})",
            "take a path, hdfs://, s3://, oss://, gs:// or http(s)://, or install fsspec's client",
            code="scheme-unsupported",
        ) from None
    if scheme == "webhdfs":
        client.eai_place = place
    return client
