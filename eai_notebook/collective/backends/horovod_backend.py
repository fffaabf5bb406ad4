"""The Horovod backend: asynchronous collectives over MPI or NCCL, joined into large messages."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.bookkeeping import say
from eai_notebook.collective.backend import CollectiveBackend, Membership
from eai_notebook.collective.backends import horovod_reports, horovod_timeline
from eai_notebook.collective.keras_check import check_keras
from eai_notebook.errors import EaiError, ExchangeFailed, ExchangeReleased

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import tensorflow as tf
    from mpi4py import MPI

    from eai_notebook.collective.backend import Exchange, Missing, Operation

BUILD: Final = "build it with `eai-notebook install-horovod`"

_FUSED: Final = 4 << 20
"""Bytes that Horovod puts into one message when nobody has measured the link: ready tensors
leave soon, and a message is still large."""

_MPI_ONLY: Final = ("HOROVOD_CONTROLLER", "HOROVOD_CPU_OPERATIONS")
"""With another value than ``mpi`` Horovod crashes when MPI has started it."""

_CARRIED: Final = {
    "uint16": "int32",
    "int16": "int32",
    "uint32": "int64",
    "uint64": "int64",
    "bfloat16": "float32",
}
"""Dtypes that Horovod over MPI cannot carry, and those that hold their values exactly
(seeds in uint64 keep their bits)."""

_NAMES: Final = """
    ADASUM_MPI_CHUNK_SIZE AUTOTUNE AUTOTUNE_LOG AUTOTUNE_WARMUP_SAMPLES AUTOTUNE_STEPS_PER_SAMPLE
    BATCH_D2D_MEMCOPIES CACHE_CAPACITY CPU_OPERATIONS CYCLE_TIME DISABLE_GROUP_FUSION
    ENABLE_ASYNC_COMPLETION FUSION_THRESHOLD GPU_OPERATIONS HIERARCHICAL_ALLGATHER
    HIERARCHICAL_ALLREDUCE LOG_HIDE_TIME LOG_LEVEL MPI_THREADS_DISABLE NUM_NCCL_STREAMS
    STALL_CHECK_DISABLE STALL_CHECK_TIME_SECONDS STALL_SHUTDOWN_TIME_SECONDS THREAD_AFFINITY
    TIMELINE TIMELINE_MARK_CYCLES TORUS_ALLREDUCE
"""

# Horovod's errors have no types: TensorFlow passes on their texts, which are the only distinction.
_RELEASED: Final = ("Horovod has been shut down", "Horovod has not been initialized")
_FAILED: Final = "failed, see MPI output for details"
_MISMATCH: Final = re.compile(r"Mismatched [^\n]*?(?: One rank[^\n]*?\.(?=\s|\[|$)|$)")
_TENSOR: Final = re.compile(r"(?:\{node |\bname: )([^\s{}]+)")


class HorovodBackend(CollectiveBackend):
    """Horovod. mpi4py starts MPI, so a ring can be released and formed again at will."""

    name = "horovod"
    title = "Horovod"
    # What it reports of missing tensors is read by `horovod_reports`.
    settings = {"HOROVOD_STALL_CHECK_TIME_SECONDS": "10"}  # noqa: RUF012 - a mapping, not changed
    forwarded = ("EAI_HOROVOD_REST_MS", *(f"HOROVOD_{name}" for name in _NAMES.split()))
    fusion_variable = "HOROVOD_FUSION_THRESHOLD"

    def unavailable(self) -> EaiError | None:
        """Return which of Horovod, TensorFlow and Keras cannot be imported, and why."""
        try:
            _horovod()
        except EaiError as error:
            return error
        return None

    def library(self) -> tuple[str, tuple[str, ...]]:
        """Return Horovod's version and the operations it was built with."""
        import horovod

        hvd = _horovod()
        built = {"MPI": hvd.mpi_built(), "NCCL": hvd.nccl_built(), "Gloo": hvd.gloo_built()}
        return str(horovod.__version__), tuple(name for name, there in built.items() if there)

    def form(self, comm: MPI.Intracomm | None) -> Membership:
        """Start Horovod on the processes of `comm`."""
        _settle_environment()
        hvd = _horovod()
        hvd.init(comm)
        if not hvd.is_initialized():
            raise EaiError(
                "Horovod did not start", "run `eai-notebook check`", code="horovod-not-started"
            )
        return Membership(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size())

    def release(self) -> None:
        """Shut Horovod down; it ends the exchanges in flight on all ranks."""
        _horovod().shutdown()

    def allreduce(self, tensor: tf.Tensor, name: str, operation: Operation) -> tf.Tensor:
        """Combine by MPI's or NCCL's allreduce."""
        import tensorflow as tf

        hvd = _horovod()
        kind = {"sum": hvd.Sum, "average": hvd.Average, "max": hvd.Max}[operation]
        carried = _carried(tensor)
        # A gradient of rows would be gathered: what is given here is one tensor.
        return tf.cast(hvd.allreduce(carried, op=kind, name=name), tensor.dtype)

    def allgather(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Gather by allgatherv."""
        import tensorflow as tf

        return tf.cast(_horovod().allgather(_carried(tensor), name=name), tensor.dtype)

    def alltoall(
        self, tensor: tf.Tensor, splits: tf.Tensor, name: str
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Exchange by alltoallv."""
        import tensorflow as tf

        received, lengths = _horovod().alltoall(_carried(tensor), splits, name=name)
        return tf.cast(received, tensor.dtype), lengths

    def broadcast(self, tensor: tf.Tensor, root: int, name: str) -> tf.Tensor:
        """Broadcast by MPI or NCCL."""
        import tensorflow as tf

        return tf.cast(_horovod().broadcast(_carried(tensor), root, name=name), tensor.dtype)

    def barrier(self, name: str) -> None:
        """Wait in an allreduce of one number, which `release` ends; MPI's barrier it would not."""
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):
            self.allreduce(tf.zeros([1], tf.int32), name, "sum")

    def translate(self, error: BaseException) -> EaiError | None:
        """Distinguish Horovod's errors by their texts."""
        tensorflow = sys.modules.get("tensorflow")
        # Horovod's Python half raises a ValueError where its other half would.
        if tensorflow is None or not isinstance(error, (tensorflow.errors.OpError, ValueError)):
            return None
        text = str(error)
        if any(words in text for words in _RELEASED):
            return ExchangeReleased(cause=error)
        if _FAILED in text:
            return ExchangeFailed(cause=error)
        found = _MISMATCH.search(text)
        return None if found is None else _mismatch(found[0], _TENSOR.search(text))

    def start_timeline(self, file: Path) -> bool:
        """Record on the first rank: it decides for all when a tensor is exchanged."""
        hvd = _horovod()
        if hvd.size() == 1 or hvd.rank() != 0:
            return False
        horovod_timeline.start(hvd, file)
        return True

    def stop_timeline(self, file: Path) -> list[Exchange]:
        """Return the stages that Horovod has recorded."""
        hvd = _horovod()
        return horovod_timeline.stop(hvd if hvd.is_initialized() else None, file)

    def watch_missing(self, report: Callable[[Missing], None]) -> None:
        """Read Horovod's reports from this process's stderr, where alone it writes them."""
        horovod_reports.install(report)


def _carried(tensor: tf.Tensor) -> tf.Tensor:
    """Return `tensor` in a dtype that Horovod carries."""
    import tensorflow as tf

    return tf.cast(tensor, _CARRIED.get(tensor.dtype.name, tensor.dtype.name))


def _mismatch(text: str, tensor: re.Match[str] | None) -> EaiError:
    name = f"`{tensor[1]}`" if tensor else "a tensor"
    return EaiError(
        f"the ranks cannot exchange {name}: {text.rstrip('.')}",
        "give it the same shape and dtype on all ranks",
        code="exchange-mismatch",
    )


def _settle_environment() -> None:
    """Give Horovod its fusion threshold and leave its cycle time alone.

    With both set, Horovod 0.28 crashes when a ring is formed a second time: its tuner has
    nothing left to tune, and writes to where it was. The threshold matters more, and the
    cycle time is 1 ms by itself.
    """
    os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", str(_FUSED))
    os.environ.setdefault("HOROVOD_TIMELINE", "DYNAMIC")  # off, until it is switched on
    if os.environ.pop("HOROVOD_CYCLE_TIME", None) is not None:
        say("HOROVOD_CYCLE_TIME is not used here: a ring could not be mended", error=True)
    for name in _MPI_ONLY:
        if os.environ.get(name, "mpi").lower() not in ("", "mpi"):
            say(f"{name}={os.environ.pop(name)} is not used here: ranks talk by MPI", error=True)


def _horovod() -> Any:
    """Import Horovod's TensorFlow half.

    Raises:
        EaiError: It, or TensorFlow or Keras below it, cannot be imported: which, and why.
    """
    check_keras()
    try:
        import horovod.tensorflow as hvd
    except Exception as error:
        raise import_failure(error) from error
    check_keras()  # Horovod has imported Keras, whose backend may come from keras.json
    return hvd


_REMEDIES: Final = {
    "tensorflow": "install it with `pip install tensorflow-cpu`, or `tensorflow` for GPUs",
    "keras": "install it with `pip install keras`",
    "horovod": BUILD,
}
_TITLES: Final = {"tensorflow": "TensorFlow", "keras": "Keras", "horovod": "Horovod"}


def import_failure(error: Exception) -> EaiError:
    """Return which of Horovod, TensorFlow and Keras could not be imported, and why.

    They are imported one by the other, so that the error of one comes out of all.
    """
    from importlib.util import find_spec

    for package, remedy in _REMEDIES.items():
        if find_spec(package) is None:
            what = f"{_TITLES[package]} is not installed"
            if package == "horovod":
                return EaiError(what, remedy, code="horovod-missing")
            return EaiError(what, remedy, code="tensorflow-missing")
    if os.environ.get("TF_USE_LEGACY_KERAS", "0").lower() not in ("", "0", "false"):
        why = f"TF_USE_LEGACY_KERAS is set, and ranks train with Keras 3 ({_words(error)})"
        return EaiError(why, "unset TF_USE_LEGACY_KERAS", code="keras-backend")
    for package in ("tensorflow", "keras"):
        if _fails(package):
            what = f"{_TITLES[package]} cannot be imported ({_words(error)})"
            return EaiError(what, f"see what `import {package}` says", code="tensorflow-broken")
    return EaiError(f"Horovod cannot be imported ({_words(error)})", BUILD, code="horovod-broken")


def _fails(package: str) -> bool:
    """Return whether importing `package` alone fails as well."""
    try:
        importlib.import_module(package)
    except Exception:  # noqa: BLE001  # the error that is shown is the first one
        return True
    return False


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
