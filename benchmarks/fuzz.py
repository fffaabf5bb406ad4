"""Damaged and crafted files of every format, read by our decoders and by the libraries.

Each mutation of a small whole file is read in a child process by our reader and, where there is
one, by the library: Arrow for Parquet and Arrow files, protocol buffers for TFRecord, NumPy, gzip
and Arrow's Snappy. Counted are ends of the process and errors other than `EaiError` (crashes),
mutations that take 20 s of processor time (hangs), and other values than the library's, or any at
all where it refuses the file (silent differences). Files that end badly stay in `--keep`.

Usage: python benchmarks/fuzz.py [--mutations 100000] [--seed 0] [--formats parquet,arrow]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import _harness as harness  # noqa: E402 - the fuzzer of the tests is not a package of ours
import fuzzing  # noqa: E402

_SHARES: Final = {"parquet": 8, "arrow": 4, "tfrecord": 4}
"""Of the mutations, where a format is not to have as many as each other one."""


def main() -> None:
    """Read the mutations and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(one.name for one in fuzzing.FORMATS))
    parser.add_argument("--keep", type=Path, default=None, help="folder for files that end badly")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="eai-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in fuzzing.FORMATS if one.name in options.formats.split(",")]
    all_shares = sum(_SHARES.get(one.name, 1) for one in chosen)
    whole, details = fuzzing.Outcome(), {}
    for one in chosen:
        count = -(-options.mutations * _SHARES.get(one.name, 1) // all_shares)
        found = fuzzing.run([one], options.seed, count, folder)
        whole.add(found)
        details[one.name] = vars(found)
        harness.say(f"{one.name}: {dict(found.counts)}, {len(found.crashes)} crashes")
    summary = {
        "mutations": whole.counts["mutations"],
        "crashes": len(whole.crashes),
        "hangs": len(whole.hangs),
        "silent_differences": len(whole.differences),
    }
    harness.finish("fuzz", summary, {"seed": options.seed, "formats": details})


if __name__ == "__main__":
    main()
