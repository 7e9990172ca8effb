"""Every error this package raises on purpose.

A message says what is wrong, where, and what to do next. Whoever handles many series catches `TiltAlignError`
for one of them and goes on with the others; anything else that escapes is a bug.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

DISK_TAKES_NOTHING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Numbers of `OSError` that concern all series, so that to go on would only make it worse: full or read-only."""


_MOST_NAMES = 12
"""Names that an error lists; a dataset may have thousands."""


def listed(names: Iterable[str], wanted: str = "") -> str:
    """Names as an error tells them: all if they are few, else some, first those most like the one that was wanted."""
    known = list(names)
    if len(known) <= _MOST_NAMES:
        return ", ".join(known)
    same = [name for name in known if _spelling(name) == _spelling(wanted)]
    shown = list(dict.fromkeys([*same, *get_close_matches(wanted, known), *known]))[:_MOST_NAMES]
    return f"{', '.join(shown)} and {len(known) - len(shown)} more"


def _spelling(name: str) -> str:
    """A name without what is most often wrong in it: capitals, and zeros before a number."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name).casefold()


class TiltAlignError(Exception):
    """Base of all errors raised on purpose."""


class BadInput(TiltAlignError):
    """The whole input cannot be used: not a STAR file, a required column missing, names that collide."""


class BadTiltSeries(TiltAlignError):
    """One tilt series cannot be used; the others are not concerned.

    Parameters
    ----------
    series_name
        Name of the series, put in front of the message.
    problem
        What is wrong, where, and what to do about it.
    """

    def __init__(self, series_name: str, problem: str) -> None:
        super().__init__(f"{series_name}: {problem}")
        self.series_name = series_name
        self.problem = problem

    def __reduce__(self) -> tuple[type[BadTiltSeries], tuple[str, str]]:
        """Rebuild from both parts, so that the error survives a trip between processes."""
        return type(self), (self.series_name, self.problem)


class MethodFailed(TiltAlignError):
    """A method found no usable geometry. A poor one is returned with flags instead."""


class ProgramMissing(TiltAlignError):
    """An external program is not installed or was not found."""


class ProgramFailed(TiltAlignError):
    """An external program ran and failed."""


class Cancelled(TiltAlignError):
    """The user, or the scheduler, asked to stop."""
