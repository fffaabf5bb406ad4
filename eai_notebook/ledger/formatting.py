"""Format numbers with units for people; the same in every display."""

from __future__ import annotations

from math import floor, log10
from typing import Final

_MANY: Final = 100


def percent(share: float) -> str:
    """Return a share as whole percent.

    Examples:
        >>> percent(0.613)
        '61 %'
    """
    return f"{100 * share:.0f} %"


def ms(seconds: float) -> str:
    """Return a length of time in milliseconds, three digits.

    Examples:
        >>> ms(0.0102), ms(0.0099999), ms(0.1234), ms(2.5), ms(0)
        ('10.2 ms', '10.0 ms', '123 ms', '2500 ms', '0.00 ms')
    """
    value = float(f"{1e3 * seconds:.3g}")
    before_the_point = 1 + floor(log10(abs(value))) if value else 1
    return f"{value:.{min(2, max(0, 3 - before_the_point))}f} ms"


def duration(seconds: float) -> str:
    """Return a length of time in the largest units that a person would say.

    Examples:
        >>> duration(0.0102), duration(2.5), duration(14.9), duration(95), duration(7800)
        ('10.2 ms', '2.5 s', '15 s', '1 min 35 s', '2 h 10 min')
    """
    if 0 < seconds < 1:
        return ms(seconds)
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - two digits
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def count(number: float) -> str:
    """Return a number of things, a small one with three digits.

    Examples:
        >>> count(81_920.4), count(2.9412), count(0)
        ('81,920', '2.94', '0')
    """
    return f"{number:,.0f}" if number >= _MANY else f"{number:.3g}"


def amount(number: float) -> str:
    """Return a number of bytes, three digits.

    Examples:
        >>> amount(12_345_678), amount(900), amount(2e12)
        ('12.3 MB', '900 B', '2e+03 GB')
    """
    units = ("B", "kB", "MB", "GB")
    thousands = min(len(units) - 1, max(0, floor(log10(number) / 3))) if number > 0 else 0
    return f"{number / 1000**thousands:.3g} {units[thousands]}"


def span(ranks: list[int]) -> str:
    """Return rank numbers with their runs joined.

    Examples:
        >>> span([0, 2, 3, 4, 7]), span([3])
        ('ranks 0, 2-4, 7', 'rank 3')
    """
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    spans = ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)
    return f"rank{'s' * (len(ranks) != 1)} {spans}"
