"""Numbers as text: read strictly, written so that nothing is lost."""

from __future__ import annotations

import math
import re

from napari_tiltalign.errors import BadInput

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MISSING = frozenset({"", "nan", "<na>", "none", "null"})


def parse_number(text: str, what: str, *, limit: float = math.inf) -> float:
    """Read a number that must be there.

    Python's own ``float`` takes ``nan``, ``inf``, ``1_000`` and turns ``1e400`` into infinity; none of these is
    a value that anybody meant. Commas are refused, not guessed at: ``1,5`` is one and a half or fifteen.

    Parameters
    ----------
    text
        The cell.
    what
        What it is and where, for the message: ``TS_01.star, line 9, rlnTomoYTilt``.
    limit
        Largest magnitude that makes sense.

    Raises
    ------
    BadInput
        If it is no finite number, or beyond the limit.

    Examples
    --------
    >>> parse_number("-3.50000", "defocus")
    -3.5
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        hint = "; write decimals with a point" if "," in text else ""
        raise BadInput(f"{what} is {text!r}, which is not a finite number{hint}")
    if abs(value) > limit:
        raise BadInput(f"{what} is {text}, outside -{limit:g} .. {limit:g}")
    return value


def parse_optional_number(text: str | None, what: str, *, limit: float = math.inf) -> float:
    """Read a number that may be missing (no cell, an empty one, ``nan``, ``<NA>``, ``None``), which gives NaN.

    Raises
    ------
    BadInput
        If there is something and it is no number.
    """
    if text is None or text.strip().lower() in _MISSING:
        return math.nan
    return parse_number(text, what, limit=limit)


def parse_angle_deg(text: str, what: str) -> float:
    """Read an angle in degrees, which must lie within [-180, 180].

    Raises
    ------
    BadInput
        If it is no such number.
    """
    return parse_number(text, what, limit=180.0)


def format_number(value: float) -> str:
    """Write a number with six decimals, as RELION does, or with as many digits as it takes to get it back exactly.

    Raises
    ------
    ValueError
        If it is not finite; RELION cannot read such a cell.

    Examples
    --------
    >>> format_number(-85.25), format_number(1e-7), format_number(-0.0)
    ('-85.250000', '1e-07', '0.000000')
    """
    number = float(value) + 0.0  # turns -0.0 into 0.0
    if not math.isfinite(number):
        raise ValueError(f"{value} cannot be written as a number")
    text = f"{number:.6f}"
    return text if float(text) == number else repr(number)
