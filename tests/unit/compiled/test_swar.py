from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from eai_notebook.compiled.swar import bytes_before, decimal, hexadecimal, word_at

TABS = np.uint64(0x0909090909090909)


@njit
def field(text: np.ndarray) -> tuple[int, int]:
    word = word_at(text, 1)
    length = bytes_before(word, TABS)
    return length, decimal(word, min(max(length, 1), 8))


@njit
def sixteen(text: np.ndarray) -> int:
    return int(hexadecimal(word_at(text, 1)))


def words(text: bytes) -> np.ndarray:
    return np.frombuffer(b"#" + text.ljust(16, b"\t"), np.uint8)  # not aligned


@pytest.mark.parametrize("digits", range(1, 9))
def test_every_length_of_decimal_number(digits: int) -> None:
    for value in (10**digits - 1, 10 ** (digits - 1), int("12345678"[:digits])):
        assert field(words(b"%d" % value)) == (digits, value)


@pytest.mark.parametrize("wrong", [byte for byte in range(256) if byte not in b"0123456789\t"])
def test_no_other_byte_is_a_decimal_digit(wrong: int) -> None:
    for place in range(4):
        text = bytearray(b"1234")
        text[place] = wrong
        assert field(words(bytes(text)))[1] == -1


def test_every_byte_in_every_place_of_a_hexadecimal_number() -> None:
    for byte in range(256):
        for place in range(8):
            text = bytearray(b"09afAF7e")
            text[place] = byte
            good = chr(byte) in "0123456789abcdefABCDEF"
            assert sixteen(words(bytes(text))) == (int(text, 16) if good else -1)
