"""A form for any options class, built from its fields, so that the form cannot disagree with the command line."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import MethodOptions

_UNITS = {
    "nm": "nm", "angst": "Å", "px": "px", "deg": "°", "um": "µm", "percent": "%", "e_per_A2": "e/Å²", "s": "s",
}  # fmt: skip
"""Endings of field names to what a person reads."""


class OptionsForm(Container[ValueWidget[Any]]):
    """A form that shows and gives back options of one class.

    Parameters
    ----------
    options
        What it shows at first.
    """

    def __init__(self, options: MethodOptions) -> None:
        self._options_class = type(options)
        widgets = [field_widget(name, field) for name, field in self._options_class.model_fields.items()]
        numbers = {_words(widget.label) for widget in widgets if not isinstance(widget, ComboBox)}
        for widget in widgets:
            if isinstance(widget, ComboBox) and widget.label in numbers:
                widget.label = f"{widget.label} is"  # the number has the same name, and comes with a unit
        super().__init__(widgets=widgets, labels=True)
        self.value = options

    @property
    def value(self) -> MethodOptions:
        """The options that the form shows.

        Raises
        ------
        BadInput
            If the values do not go together; the message says which.
        """
        try:
            return self._options_class(**{widget.name: widget.value for widget in self})
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False))
            raise BadInput("; ".join(problems)) from error

    @value.setter
    def value(self, options: MethodOptions) -> None:
        if type(options) is not self._options_class:
            raise TypeError(f"a form for {self._options_class.__name__} cannot show {type(options).__name__}")
        with self.changed.blocked():
            for name in self._options_class.model_fields:
                self[name].value = getattr(options, name)
        self.changed.emit(self)


def field_widget(name: str, field: FieldInfo) -> ValueWidget[Any]:
    """Widget for one field of an options class.

    Parameters
    ----------
    name
        Of the field; its ending gives the unit.
    field
        A bool, a number with ``ge`` and ``le``, a text, or a choice (`typing.Literal`).

    Raises
    ------
    TypeError
        If there is no widget for such a field.
    """
    common: dict[str, Any] = {"name": name, "label": _label(name, field), "tooltip": field.description or ""}
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return ComboBox(choices=get_args(kind), **common)
    if kind is bool:
        return CheckBox(text="", **common)
    if kind is str:
        return LineEdit(**common)
    if kind in (int, float):
        low, high = _limit(field, "ge"), _limit(field, "le")
        if low is None or high is None:
            raise TypeError(f"option {name} is a number without ge and le, which a form needs")
        if kind is int:
            return SpinBox(min=int(low), max=int(high), **common)
        return FloatSpinBox(min=low, max=high, step=float_step(low, high, field.default), **common)
    raise TypeError(f"option {name} is of a kind that a form cannot show: {kind}")


def _words(label: str) -> str:
    """A label without its unit."""
    return label.rpartition(" (")[0] or label


def _label(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    given = extra.get("label") if isinstance(extra, dict) else None
    return str(given) if given else field_label(name)


def field_label(name: str) -> str:
    """Label of a field for people: words, and the unit that its name ends with in brackets."""
    if name.startswith("n_"):
        return f"Number of {name[2:].replace('_', ' ')}"
    for ending, unit in _UNITS.items():
        if name.endswith(f"_{ending}"):
            words = name.removesuffix(f"_{ending}").replace("_", " ")
            return f"{words[:1].upper()}{words[1:]} ({unit})"
    words = name.replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}"


def float_step(low: float, high: float, default: Any) -> float:
    """Step of a number: a power of ten, about a tenth of its default, and fine enough to show the default exactly."""
    size = abs(default) if isinstance(default, int | float) and default else (high - low) / 10
    step = 10.0 ** math.floor(math.log10(size / 5)) if size else 1.0
    while isinstance(default, int | float) and abs(default / step - round(default / step)) > 1e-9:
        step /= 10.0
    return step


def _limit(field: FieldInfo, kind: str) -> float | None:
    return next((getattr(limit, kind) for limit in field.metadata if hasattr(limit, kind)), None)
