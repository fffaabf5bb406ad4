from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from eai_notebook.formats.parquet.snappy import decompress_ranges

RNG = np.random.default_rng(0)
TEXTS = {
    "nothing": b"",
    "a byte": b"x",
    "random": RNG.bytes(70_000),
    "one byte again and again": b"a" * 5000,
    "a few bytes again and again": b"abcde" * 3000,
    "small numbers": RNG.integers(0, 9, 9000).tobytes(),
    "text from far back": RNG.bytes(40_000) * 2,
    "long literals": RNG.bytes(66_000) + b"a" * 99,
}


def decompressed(compressed: bytes, size: int) -> bytes | None:
    """Decompress bytes that lie between others into memory between others; None if refused."""
    memory = np.frombuffer(b"###" + compressed + b"###", np.uint8)
    target = np.full(size + 10, 7, np.uint8)
    ranges = np.array([[3, 3 + len(compressed), 5, 5 + size]], np.int64)
    good = decompress_ranges(memory, ranges, target)
    assert (target[:5] == 7).all()
    assert (target[5 + size :] == 7).all()
    return target[5 : 5 + size].tobytes() if good else None


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_arrow_compresses_is_restored(text: bytes) -> None:
    compressed = pa.compress(text, "snappy", asbytes=True)
    assert decompressed(compressed, len(text)) == text


def test_lengths_of_every_kind_are_read() -> None:
    for length in (59, 60, 61, 255, 256, 257, 65_535, 65_536, 65_537):
        text = RNG.bytes(length)
        assert decompressed(pa.compress(text, "snappy", asbytes=True), length) == text
    # An offset in four bytes, which no compressor writes when fewer are enough.
    far = bytes([8, 3 << 2]) + b"abcd" + bytes([3 << 2 | 3, 4, 0, 0, 0])
    assert decompressed(far, 8) == b"abcdabcd"


def test_several_ranges_are_decompressed_into_their_targets() -> None:
    texts = [RNG.bytes(size) for size in (100, 0, 3000)]
    compressed = [pa.compress(text, "snappy", asbytes=True) for text in texts]
    ends = np.cumsum([len(one) for one in compressed])
    highs = np.cumsum([len(text) for text in texts])
    ranges = [
        [end - len(one), end, high - len(text), high]
        for one, text, end, high in zip(compressed, texts, ends, highs, strict=True)
    ]
    target = np.empty(highs[-1], np.uint8)
    assert decompress_ranges(
        np.frombuffer(b"".join(compressed), np.uint8), np.array(ranges), target
    )
    assert target.tobytes() == b"".join(texts)
    ranges[2][3] += 1
    assert not decompress_ranges(
        np.frombuffer(b"".join(compressed), np.uint8), np.array(ranges), target
    )


def test_another_length_than_the_header_has_is_refused() -> None:
    compressed = pa.compress(b"some text", "snappy", asbytes=True)
    assert decompressed(compressed, 8) is None
    assert decompressed(compressed, 10) is None
    assert decompressed(compressed[:-1], 9) is None
    assert decompressed(compressed + b"\x00", 9) is None


def test_damage_is_refused_or_gives_the_bytes_that_arrow_gives() -> None:
    text = b"".join(RNG.bytes(9) * 4 for _ in range(60))
    compressed = pa.compress(text, "snappy", asbytes=True)
    agreed = 0
    for _ in range(3000):
        damaged = bytearray(compressed)
        for index in RNG.integers(0, len(compressed), RNG.integers(1, 4)):
            damaged[index] = RNG.integers(256)
        ours = decompressed(bytes(damaged), len(text))
        try:
            theirs = pa.decompress(
                bytes(damaged), decompressed_size=len(text), codec="snappy", asbytes=True
            )
        except (pa.ArrowException, OSError):
            theirs = None
        if ours is not None:
            assert ours == theirs
            agreed += 1
    assert 100 < agreed < 2900
