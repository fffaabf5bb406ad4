from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from eai_notebook.formats.parquet.snappy import unpack

RNG = np.random.default_rng(0)
TEXTS = {
    "nothing": b"",
    "a byte": b"x",
    "random": RNG.bytes(70_000),
    "one byte again and again": b"a" * 5000,
    "a few bytes again and again": b"abcde" * 3000,
    "small numbers": RNG.integers(0, 9, 9000).tobytes(),
    "text from far back": RNG.bytes(40_000) * 2,
    "long plain pieces": RNG.bytes(66_000) + b"a" * 99,
}


def unpacked(packed: bytes, size: int) -> bytes | None:
    """Return what comes of some bytes that stand between others, into memory between other."""
    memory = np.frombuffer(b"###" + packed + b"###", np.uint8)
    plain = np.full(size + 10, 7, np.uint8)
    places = np.array([[3, 3 + len(packed), 5, 5 + size]], np.int64)
    good = unpack(memory, places, plain)
    assert (plain[:5] == 7).all()
    assert (plain[5 + size :] == 7).all()
    return plain[5 : 5 + size].tobytes() if good else None


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_arrow_packs_comes_out_again(text: bytes) -> None:
    packed = pa.compress(text, "snappy", asbytes=True)
    assert unpacked(packed, len(text)) == text


def test_lengths_of_every_kind_are_read() -> None:
    for length in (59, 60, 61, 255, 256, 257, 65_535, 65_536, 65_537):
        text = RNG.bytes(length)
        assert unpacked(pa.compress(text, "snappy", asbytes=True), length) == text
    # From 4 bytes back on, told in four bytes, as no packer does that knows better.
    far = bytes([8, 3 << 2]) + b"abcd" + bytes([3 << 2 | 3, 4, 0, 0, 0])
    assert unpacked(far, 8) == b"abcdabcd"


def test_several_pieces_go_where_they_are_told() -> None:
    texts = [RNG.bytes(size) for size in (100, 0, 3000)]
    packed = [pa.compress(text, "snappy", asbytes=True) for text in texts]
    ends = np.cumsum([len(one) for one in packed])
    highs = np.cumsum([len(text) for text in texts])
    places = [
        [end - len(one), end, high - len(text), high]
        for one, text, end, high in zip(packed, texts, ends, highs, strict=True)
    ]
    plain = np.empty(highs[-1], np.uint8)
    assert unpack(np.frombuffer(b"".join(packed), np.uint8), np.array(places), plain)
    assert plain.tobytes() == b"".join(texts)
    places[2][3] += 1
    assert not unpack(np.frombuffer(b"".join(packed), np.uint8), np.array(places), plain)


def test_a_length_that_is_not_the_one_told_is_refused() -> None:
    packed = pa.compress(b"some text", "snappy", asbytes=True)
    assert unpacked(packed, 8) is None
    assert unpacked(packed, 10) is None
    assert unpacked(packed[:-1], 9) is None
    assert unpacked(packed + b"\x00", 9) is None


def test_damage_is_refused_or_gives_what_arrow_makes_of_it() -> None:
    text = b"".join(RNG.bytes(9) * 4 for _ in range(60))
    packed = pa.compress(text, "snappy", asbytes=True)
    agreed = 0
    for _ in range(3000):
        damaged = bytearray(packed)
        for place in RNG.integers(0, len(packed), RNG.integers(1, 4)):
            damaged[place] = RNG.integers(256)
        ours = unpacked(bytes(damaged), len(text))
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
