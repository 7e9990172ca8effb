"""What a method is: options in, a tilt series in, an alignment out; and the registry that lists them all.

A method is named once, in the entry-point group ``napari_tiltalign.methods``. The command line, the napari widgets,
the batch engine and the report take it from there, and packages other than this one can add to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict

from napari_tiltalign.errors import BadInput
from napari_tiltalign.model import Alignment, TiltSeries

ENTRY_POINT_GROUP = "napari_tiltalign.methods"


class Progress(Protocol):
    """Told how far the work is; raises `Cancelled` to stop it."""

    def __call__(self, fraction: float, message: str) -> None:
        """Report progress.

        Parameters
        ----------
        fraction
            Part done, 0 to 1.
        message
            What is being done now.

        Raises
        ------
        Cancelled
            If the work should stop here.
        """
        ...


def silent(fraction: float, message: str) -> None:
    """Progress that nobody listens to."""


class MethodOptions(BaseModel):
    """Base of the options of every method.

    One class builds the command-line flags, the form in napari and the record in JSON. Options are frozen, unknown
    ones are refused, every number has limits and a unit in its description, and none is optional (a choice plus a
    number instead, because a form cannot show "nothing").

    The flag of an option is its name with dashes. Where users know it under another name, the field carries that:
    ``Field(json_schema_extra={"flag": "--fiducial-diameter-nm"})``. In a form it is called by its name in words, or by
    the ``label`` of the field.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some options changed, validated like new ones."""
        return type(self)(**{**self.model_dump(), **changes})

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show only what differs from the defaults."""
        fields = type(self).model_fields
        return [(k, v) for k, v in super().__repr_args__() if k is None or v != fields[k].default]


def flag_names(options: type[MethodOptions]) -> dict[str, str]:
    """Return the flag of every option: its field name with dashes, unless the field carries a ``flag`` of its own.

    Raises
    ------
    TypeError
        If a field's flag is not text that begins with two dashes.
    """
    return {name: _flag(name, field.json_schema_extra) for name, field in options.model_fields.items()}


def _flag(name: str, extra: Any) -> str:
    flag = extra.get("flag") if isinstance(extra, dict) else None
    if flag is None:
        return "--" + name.replace("_", "-")
    if not (isinstance(flag, str) and flag.startswith("--")):
        raise TypeError(f"option {name}: flag must be text that begins with two dashes, not {flag!r}")
    return flag


@runtime_checkable
class Method(Protocol):
    """A way to align a tilt series.

    A method that needs something from outside, such as another program, may also have a method
    ``unavailable_because() -> str``, for what it finds by itself, and ``check_usable(options) -> None``, for what the
    options say; see the functions of these names. One that computes on a GPU where the device ``cuda`` is demanded says
    so by an attribute ``uses_gpu``, which is true.

    Attributes
    ----------
    name
        As on the command line: ``fiducial``.
    title
        As in a menu: ``Gold beads``.
    summary
        When to use it, one sentence.
    Options
        Its options class.
    """

    name: str
    title: str
    summary: str
    Options: type[MethodOptions]

    def __call__(
        self,
        series: TiltSeries,
        options: MethodOptions,
        *,
        start: Alignment | None = None,
        progress: Progress = silent,
    ) -> Alignment:
        """Align one series.

        Parameters
        ----------
        series
            What to align; excluded images take no part and get an interpolated geometry.
        options
            An instance of `Options`.
        start
            An alignment to start from, of the same series; None to start from the nominal geometry.
        progress
            Told how far it is; may raise `Cancelled`.

        Returns
        -------
        Alignment
            Also from a poor fit, with flags.

        Raises
        ------
        MethodFailed
            If no usable geometry exists. The message says why and what to try.
        BadTiltSeries
            If the series cannot be used.
        Cancelled
            If `progress` asked to stop.
        """
        ...


class _Registry(Mapping[str, Method]):
    """Methods by name; each is imported when it is first asked for, because some need heavy libraries."""

    def __init__(self, found: Sequence[EntryPoint]) -> None:
        self._found = {entry.name: entry for entry in found}
        self._loaded: dict[str, Method] = {}

    def __getitem__(self, name: str) -> Method:
        if name not in self._loaded:
            self._loaded[name] = self._found[name].load()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def of_options(self, options: type[MethodOptions]) -> Method | None:
        """Return the method that takes options of a class; modules that are imported already are looked at first."""
        for name in sorted(self._found, key=lambda name: self._found[name].module not in sys.modules):
            if self[name].Options is options:
                return self[name]
        return None


@cache
def methods() -> _Registry:
    """Return all methods, ours first and then other packages', by name."""
    found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.dist.name if e.dist else "", e.name))
    ours = [e for e in found if e.value.startswith("napari_tiltalign.")]
    return _Registry([*ours, *(e for e in found if e not in ours)])


def method(name: str) -> Method:
    """Return one method.

    Raises
    ------
    BadInput
        If there is none of that name; the message lists those there are.
    """
    try:
        return methods()[name]
    except KeyError:
        raise BadInput(f"no method {name!r}; there are {', '.join(methods())}") from None


def check_usable(method: Method, options: MethodOptions) -> None:
    """Make sure, before many series are begun, that a method has what it needs on this computer.

    Raises
    ------
    ProgramMissing
        If a program is not there; the message says where it was looked for.
    """
    check = getattr(method, "check_usable", None)
    if check is not None:
        check(options)


def unavailable_because(method: Method) -> str:
    """Return why a method cannot be used on this computer, for people; empty if it can."""
    ask = getattr(method, "unavailable_because", None)
    return str(ask()) if ask is not None else ""


def uses_gpu(method: Method) -> bool:
    """Whether a method computes on a GPU inside of `images.compute.use_device` ("cuda"); others do not heed it."""
    return bool(getattr(method, "uses_gpu", False))
