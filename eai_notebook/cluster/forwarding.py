"""Which environment variables ranks on other hosts get: a list of names, since they travel unencrypted.

``mpirun`` forwards variables over connections of its own, which anybody on the network can read.
So nothing is forwarded by the beginning of its name: ``HOROVOD_...`` or ``TF_...`` may be a
user's token as well.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from eai_notebook.collective.backend_registry import forwarded_names
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Mapping

MORE: Final = "EAI_FORWARD"
"""Names of more variables to forward, separated by commas."""

SEARCH_PATHS: Final = frozenset({"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD"})
"""Where programs look for files: of use on hosts that have the same files."""
_OURS: Final = """
    EAI_AWAY EAI_ELASTIC EAI_JOB_FOLDER EAI_JOB_MODULES EAI_LEAST_RANKS EAI_LISTEN EAI_MPIRUN EAI_RUNS
    EAI_TUNE_FUSION EAI_WIRE
"""
_TENSORFLOW: Final = """
    KERAS_BACKEND OMP_NUM_THREADS NVIDIA_TF32_OVERRIDE
    TF_AUTOTUNE_THRESHOLD TF_CPP_MAX_VLOG_LEVEL TF_CPP_MIN_LOG_LEVEL TF_CPP_VMODULE
    TF_CUDNN_DETERMINISTIC TF_CUDNN_USE_AUTOTUNE TF_CUDNN_USE_FRONTEND TF_DETERMINISTIC_OPS
    TF_ENABLE_AUTO_MIXED_PRECISION TF_ENABLE_LAYOUT_NHWC TF_ENABLE_ONEDNN_OPTS
    TF_FORCE_GPU_ALLOW_GROWTH TF_GPU_ALLOCATOR TF_GPU_THREAD_COUNT TF_GPU_THREAD_MODE
    TF_NUM_INTEROP_THREADS TF_NUM_INTRAOP_THREADS TF_USE_LEGACY_KERAS TF_XLA_FLAGS XLA_FLAGS
    XLA_PYTHON_CLIENT_ALLOCATOR XLA_PYTHON_CLIENT_MEM_FRACTION XLA_PYTHON_CLIENT_PREALLOCATE
"""
_NCCL: Final = """
    NCCL_ALGO NCCL_BUFFSIZE NCCL_CROSS_NIC NCCL_DEBUG NCCL_DEBUG_FILE NCCL_DEBUG_SUBSYS NCCL_IB_DISABLE
    NCCL_IB_GID_INDEX NCCL_IB_HCA NCCL_IB_QPS_PER_CONNECTION NCCL_IB_SL NCCL_IB_TC NCCL_IB_TIMEOUT
    NCCL_MAX_NCHANNELS NCCL_MIN_NCHANNELS NCCL_NET NCCL_NET_GDR_LEVEL NCCL_NSOCKS_PERTHREAD
    NCCL_NTHREADS NCCL_P2P_DISABLE NCCL_P2P_LEVEL NCCL_PROTO NCCL_SHM_DISABLE NCCL_SOCKET_FAMILY
    NCCL_SOCKET_IFNAME NCCL_SOCKET_NTHREADS NCCL_TOPO_FILE
"""
KNOWN: Final = SEARCH_PATHS | frozenset(f"{_OURS} {_TENSORFLOW} {_NCCL}".split())
"""What is forwarded where it is set, beside the variables of collective backends: settings of the
programs that ranks run, and no others."""

_SECRET: Final = re.compile(
    r"(?<![A-Z])(TOKEN|SECRET|PASS|PASSWD|PASSWORD|PASSPHRASE|KEY|KEYS|CREDENTIALS?|CREDS?|AUTH|"
    r"BEARER|COOKIE|DSN|JWT|PAT|SAS|CONNECTION_INFO)(?![A-Z])|(?<=_)PWD(?![A-Z])"
    r"|APIKEY|PASSWORD|SECRET|TOKEN"
)


def forwarded(environment: Mapping[str, str]) -> list[str]:
    """Return ``-x NAME`` for each variable that ranks need and ssh would not bring them.

    ``environment`` are variables set for the ranks beside this process's own.

    Raises:
        EaiError: `EAI_FORWARD` names a variable that looks like a secret, or no variable.
    """
    known = {**os.environ, **environment}
    names = sorted((KNOWN | forwarded_names() | extra_names(known.get(MORE, ""))) & known.keys())
    return [word for name in names for word in ("-x", name)]


def looks_secret(name: str) -> bool:
    """Return whether a variable's name says that it is a secret.

    Examples:
        >>> looks_secret("HF_TOKEN"), looks_secret("GITHUB_PAT"), looks_secret("DB_PWD")
        (True, True, True)
        >>> looks_secret("MONKEY_ID"), looks_secret("PWD"), looks_secret("PATH")
        (False, False, False)
    """
    return _SECRET.search(name.upper()) is not None


def extra_names(text: str) -> set[str]:
    """Return the names in `text`, the value of `EAI_FORWARD`.

    Raises:
        EaiError: One looks like a secret, or is no name.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    for name in sorted(names):
        if looks_secret(name):
            what = f"{MORE} names {name}, which would go over the network unencrypted"
            remedy = "put it into a file on every host that only you may read"
            raise EaiError(what, remedy, code="forward-secret")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            remedy = f"write `{MORE}=NAME,OTHER_NAME`"
            what = f"{MORE} names {name}, which is no name of a variable"
            raise EaiError(what, remedy, code="forward-name")
    return names
