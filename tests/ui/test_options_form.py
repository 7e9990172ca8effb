"""The form of every method shows exactly its options, in their limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from pydantic import Field, model_validator

from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import MethodOptions, methods
from napari_tiltalign.methods.fiducial import Fiducial
from napari_tiltalign.simulation import Simulation
from napari_tiltalign.ui.options_form import OptionsForm, field_label, float_step

pytestmark = pytest.mark.gui


class Options(MethodOptions):
    """One field of every kind."""

    size_nm: Annotated[float, Field(ge=0.05, le=2000.0, description="Size, nm")] = 0.125
    count: Annotated[int, Field(ge=2, le=5000, description="How many")] = 1234
    fast: Annotated[bool, Field(description="Whether to hurry")] = True
    kind: Annotated[Literal["a", "b"], Field(description="Which")] = "b"
    name: Annotated[str, Field(description="What to call it")] = "x"

    @model_validator(mode="after")
    def _check(self) -> Options:
        if self.fast and self.count == 13:
            raise ValueError("13 is unlucky in a hurry")
        return self


@pytest.mark.parametrize("options", [Options, Simulation, *(m.Options for m in methods().values())])
def test_the_default_form_gives_the_default_options(qapp, options):
    assert OptionsForm(options()).value == options()


def limits() -> list[Any]:
    """Every method with every number at both of its limits."""
    cases = []
    for options in [Options, *(m.Options for m in methods().values())]:
        for name, field in options.model_fields.items():
            for kind in ("ge", "le"):
                value = next((getattr(m, kind) for m in field.metadata if hasattr(m, kind)), None)
                if value is not None:
                    cases.append(pytest.param(options, name, value, id=f"{options.__name__}.{name} {kind}"))
    return cases


@pytest.mark.parametrize(("options", "name", "value"), limits())
def test_the_limits_can_be_set(qapp, options, name, value):
    form = OptionsForm(options())
    form[name].value = value
    assert getattr(form.value, name) == value


def test_every_kind_has_its_widget_label_and_tooltip(qapp):
    form = OptionsForm(Options())
    assert [type(widget) for widget in form] == [FloatSpinBox, SpinBox, CheckBox, ComboBox, LineEdit]
    assert form["size_nm"].label == "Size (nm)"
    assert form["size_nm"].tooltip == "Size, nm"
    assert form["kind"].choices == ("a", "b")


def test_shows_other_options_and_tells_once(qapp):
    form = OptionsForm(Options())
    told = []
    form.changed.connect(lambda: told.append(1))
    other = Options(size_nm=3.5, count=7, fast=False, kind="a", name="y")
    form.value = other
    assert form.value == other
    assert len(told) == 1


def test_values_that_do_not_go_together_are_explained(qapp):
    form = OptionsForm(Options())
    form["count"].value = 13
    with pytest.raises(BadInput, match="13 is unlucky in a hurry"):
        _ = form.value


def test_options_of_another_class_are_refused(qapp):
    with pytest.raises(TypeError, match="a form for Options cannot show Simulation"):
        OptionsForm(Options()).value = Simulation()


def test_numbers_without_limits_are_refused(qapp):
    class Unlimited(MethodOptions):
        number: float = 1.0

    with pytest.raises(TypeError, match="number without ge and le"):
        OptionsForm(Unlimited())


@pytest.mark.parametrize(
    ("name", "label"),
    [("diameter_nm", "Diameter (nm)"), ("tilt_axis_deg", "Tilt axis (°)"), ("seed", "Seed"),
     ("dose_per_view_e_per_A2", "Dose per view (e/Å²)"), ("patch_overlap_percent", "Patch overlap (%)"),
     ("n_beads", "Number of beads")],
)  # fmt: skip
def test_labels_have_units(name, label):
    assert field_label(name) == label


@pytest.mark.parametrize(
    ("default", "step"), [(10.0, 1.0), (150.0, 10.0), (0.0005, 0.0001), (0.125, 0.001), (4.3, 0.1), (0.0, 10.0)]
)
def test_steps_are_round_and_show_the_default(default, step):
    assert float_step(0.0, 1000.0, default) == pytest.approx(step)


def test_a_field_may_have_a_label_of_its_own(qapp):
    assert OptionsForm(Fiducial())["diameter"].label == "The diameter is"


@pytest.mark.parametrize("method", methods().values(), ids=list(methods()))
def test_no_two_fields_have_the_same_name(qapp, method):
    words = [widget.label.rpartition(" (")[0] or widget.label for widget in OptionsForm(method.Options())]
    assert sorted(words) == sorted(set(words))
