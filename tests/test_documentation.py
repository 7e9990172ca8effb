"""The documentation says what the code does: generated pages are complete, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

import napari_tiltalign
from napari_tiltalign import difference, read_alignment
from napari_tiltalign.cli import main
from napari_tiltalign.cli.app import build_app
from napari_tiltalign.cli.exit_codes import ExitCode
from napari_tiltalign.io.convert import READABLE, WRITABLE
from napari_tiltalign.methods.base import MethodOptions, flag_names, methods
from napari_tiltalign.model.flags import FLAG_MEANINGS
from napari_tiltalign.simulation import SCENARIOS, Simulation

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), ROOT / "examples/README.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def test_every_test_that_the_documentation_names_is_there() -> None:
    files = [file for folder in ("tests", "scripts") for file in (ROOT / folder).rglob("*") if file.is_file()]
    written = "\n".join(file.read_text(encoding="utf-8") for file in files if file.suffix == ".py")
    there = {*re.findall(r"def (test_\w+)", written), *(file.relative_to(ROOT).as_posix() for file in files)}
    named = set(re.findall(r"`(test_\w+|(?:tests/|scripts/|io/|ui/)?[\w/-]+\.py|scripts/[\w-]+)`", reliability()))
    assert len(named) > 60
    assert not {name for name in named - there if f"tests/{name}" not in there}


def test_the_table_of_faults_is_complete() -> None:
    rows = re.findall(r"^\| (\d\d) \| [^|]+ \| [^|]+ \| `.+` \|$", reliability(), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(60, 91))


def reliability() -> str:
    return (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Text of the generated pages by path."""
    return site_module("pages").generated_pages()


def site_module(name: str) -> ModuleType:
    """Import a module that makes the documentation."""
    pytest.importorskip("napari", reason="the table of keys comes from the widgets")
    folder = str(ROOT / "docs" / "site")
    sys.path.insert(0, folder)
    try:
        return __import__(name)
    finally:
        sys.path.remove(folder)


@pytest.mark.gui
@pytest.mark.parametrize("name", methods())
def test_every_option_of_a_method_is_described(pages: dict[str, str], name: str) -> None:
    assert f"(methods/{name}.md)" in pages["reference/methods.md"]
    assert_options_are_described(methods()[name].Options, pages[f"reference/methods/{name}.md"])


@pytest.mark.gui
def test_every_option_of_the_simulator_is_described(pages: dict[str, str]) -> None:
    assert_options_are_described(Simulation, pages["reference/simulation.md"])
    for scenario in SCENARIOS:
        assert f"| `{scenario}` |" in pages["reference/simulation.md"]


def assert_options_are_described(options: type[MethodOptions], page: str) -> None:
    for name, flag in flag_names(options).items():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"`{flag}`" in line
        assert options.model_fields[name].description in line.replace("\\|", "|")


@pytest.mark.gui
def test_everything_else_is_listed(pages: dict[str, str]) -> None:
    for flag, meaning in FLAG_MEANINGS.items():
        assert f"| `{flag}` | {meaning} |" in pages["reference/flags.md"]
    for code in ExitCode:
        assert re.search(
            rf"^\| {code.value} \| `{code.name}` \| \w.+ \|$", pages["reference/exit-codes.md"], re.MULTILINE
        )
    for name in napari_tiltalign.__all__:
        assert re.search(rf"^::: [\w.]+\.{name}$", pages["reference/python.md"], re.MULTILINE)
    assert "`Control-Z`" in pages["reference/keyboard.md"]


@pytest.mark.gui
def test_the_help_of_every_command_is_shown(pages: dict[str, str]) -> None:
    page = pages["reference/command-line.md"]
    for command in ("align", "convert", "simulate", "relion", "doctor", "demo"):
        assert f"## {command}\n\n```text\nUsage: napari-tiltalign {command} " in page
    assert "\x1b" not in page
    assert max(map(len, page.splitlines())) < 200


@pytest.mark.gui
def test_units_come_from_the_names_of_options() -> None:
    options = site_module("options")
    assert options.unit_of("dose_per_view_e_per_A2") == "electrons per square Angstrom"
    assert options.unit_of("diameter_nm") == "nm"
    assert options.unit_of("n_beads") == ""


def test_every_format_is_in_the_table_of_formats() -> None:
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(" `"): cells[3:5] for line in text.splitlines() if len(cells := line.split("|")) > 5}
    for suffix in {*READABLE, *WRITABLE}:
        read, written = (cell.strip() for cell in rows[suffix])
        assert (read == "yes") == (suffix in READABLE)
        assert (written == "yes") == (suffix in WRITABLE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = _CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))
    assert not [link for link in _LINK.findall(text) if not leads_somewhere(link, document)]


def leads_somewhere(link: str, document: Path) -> bool:
    """Whether a file of the project, or a heading in it, is where a link says; other addresses are not asked for."""
    if "://" in link or link.startswith("mailto:"):
        return True
    path, _, heading = link.partition("#")
    target = document if not path else (document.parent / path).resolve()
    if (ROOT / "docs" / "reference") in target.parents:
        return target.suffix == ".md"  # made when the documentation is built, which checks it
    if target == ROOT / "docs" / "examples.md":
        return True  # made as well
    if not target.exists():
        return False
    return not heading or heading in {anchor(title) for title in _HEADING.findall(target.read_text(encoding="utf-8"))}


def anchor(title: str) -> str:
    """Anchor of a heading, as GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


COMMANDS = sorted(
    {
        " ".join(line.split("#")[0].split())
        for document in DOCUMENTS
        for line in re.findall(r"^    (napari-tiltalign .+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_are_shown_are_understood(command: str) -> None:
    words = shlex.split(command.replace("METHOD", "fiducial"))[1:]
    words = [word for word in words if word != "..."]
    build_app(words).parse_args(words, print_error=False, exit_on_error=False)


def test_the_tutorial_followed_to_the_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    napari-tiltalign (.+)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["simulate", "check", "align", "judge", "preview"]
    commands[0] += " --image-rows-px 192 --image-columns-px 192 --tilt-step-deg 6"  # small and fast
    for command in commands:
        assert main(shlex.split(command)) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 series aligned" in shown
    assert "SIM_demo: good, score" in shown
    found = read_alignment("project/AlignTiltSeries/job001/external/SIM_demo/alignment.json")
    truth = read_alignment("project/truth/SIM_demo.json")
    assert difference(found, truth, thickness_angst=1200.0).rms_px < 0.1


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / "tests" / name).exists()]


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    index = ROOT / "docs" / "index.md"
    assert leads_somewhere("files.md#the-folder-of-results", index)
    assert not leads_somewhere("files.md#another-title", index)
    assert not leads_somewhere("nowhere.md", index)
