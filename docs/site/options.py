"""Tables of options, from the classes that the command line, the forms and the records are made from."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any, Literal

from pydantic.fields import FieldInfo

from napari_tiltalign.methods.base import MethodOptions, flag_names

UNITS = {
    "_e_per_A2": "electrons per square Angstrom",
    "_angst": "Angstrom",
    "_counts": "counts",
    "_deg": "degrees",
    "_nm": "nm",
    "_um": "micrometres",
    "_px": "pixels",
    "_percent": "percent",
    "_per_view": "per image",
    "_minutes": "minutes",
    "_gb": "GB",
    "_s": "s",
}
"""What the end of an option's name says about its unit; longer ends first where one is part of another."""


def options_table(options: type[MethodOptions]) -> str:
    """Return every option of a class with flag, unit, default, limits and meaning, as a table in Markdown."""
    flags = flag_names(options)
    rows = (
        (f"`{name}`", f"`{flags[name]}`", unit_of(name), default_of(field), limits_of(field), field.description or "")
        for name, field in options.model_fields.items()
    )
    return table(("option", "flag", "unit", "default", "values", "meaning"), rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; bars within cells are escaped."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def unit_of(name: str) -> str:
    """Return the unit that a name carries; empty if it carries none."""
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def default_of(field: FieldInfo) -> str:
    """Return the default as it is typed; a word for what cannot be shown."""
    value = field.default
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "empty" if value == "" else f"`{value}`"


def limits_of(field: FieldInfo) -> str:
    """Return which values are allowed."""
    kind: Any = field.annotation
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if kind is bool:
        return "yes or no"
    low, high = (_bound(field, name) for name in ("ge", "le"))
    if low is None and high is None:
        return "text" if kind is str else ""
    whole = "whole numbers, " if kind is int else ""
    if high is None:
        return f"{whole}at least {low:g}"
    return f"{whole}{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return "any" if value is None else f"{value:.10g}"


def _bound(field: FieldInfo, name: str) -> float | None:
    found = (getattr(item, name, None) for item in field.metadata)
    return next((value for value in found if value is not None), None)
