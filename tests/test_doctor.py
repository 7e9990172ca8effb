"""``doctor``: what it says, and that only what is broken is an error."""

from __future__ import annotations

import pytest

from napari_tiltalign.cli import main
from napari_tiltalign.cli.doctor import State, examine
from napari_tiltalign.methods.base import methods

PROGRAM_VARIABLES = ("RELION_ARETOMO_EXECUTABLE", "RELION_BATCHTOMO_EXECUTABLE", "IMOD_DIR")


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROGRAM_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")


def test_what_is_merely_absent_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("numba", "cores", "GPU", "IMOD", "AreTomo was not found", "RELION: not on PATH", "files of Warp"):
        assert word in shown
    assert all(name in shown for name in methods())


def test_a_wrong_path_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RELION_ARETOMO_EXECUTABLE", "/nowhere/AreTomo")
    assert main(["doctor"]) == 5
    shown = capsys.readouterr().out
    assert "[!!] AreTomo: RELION_ARETOMO_EXECUTABLE=/nowhere/AreTomo does not exist" in shown
    assert "1 thing is broken" in shown


def test_a_method_that_cannot_be_loaded_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"strange": None}

    class Registry(dict[str, object]):
        def __getitem__(self, name: str) -> object:
            raise ImportError("no module named strange")

    monkeypatch.setattr("napari_tiltalign.methods.base.methods", lambda: Registry(broken))
    found = [finding for finding in examine() if finding.state is State.BROKEN]
    assert [finding.topic for finding in found] == ["Methods"]
    assert "strange cannot be loaded: no module named strange" in found[0].text


@pytest.mark.parametrize(("variable", "state"), [("", State.ABSENT), (":7", State.GOOD)])
def test_display(monkeypatch: pytest.MonkeyPatch, variable: str, state: State) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", variable)
    (found,) = (finding for finding in examine() if "display" in finding.text)
    assert found.state is state
