"""Pages of the reference that are made from the code, so that they cannot say anything else than it does."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from unittest.mock import patch

from npe2 import PluginManifest
from options import options_table, table

import napari_tiltalign
from napari_tiltalign import errors
from napari_tiltalign.cli import main
from napari_tiltalign.cli.app import build_app
from napari_tiltalign.cli.exit_codes import ExitCode
from napari_tiltalign.methods.base import Method, MethodOptions, methods
from napari_tiltalign.model.flags import FLAG_MEANINGS
from napari_tiltalign.model.tracks import State
from napari_tiltalign.simulation import SCENARIOS, Simulation
from napari_tiltalign.ui.key_table import key_table

EXAMPLES = Path(__file__).parents[2] / "examples"
HELP_COLUMNS = 100
_NOTE = "*This page is made from the code when the documentation is built.*"


def generated_pages() -> dict[str, str]:
    """Return the text of every generated page by its path below ``docs``."""
    return {
        "reference/methods.md": methods_page(),
        **{path: method_page(methods()[name]) for name, path in method_paths().items()},
        "reference/simulation.md": simulation_page(),
        "reference/command-line.md": command_line_page(),
        "reference/flags.md": flags_page(),
        "reference/exit-codes.md": exit_codes_page(),
        "reference/keyboard.md": f"# Keys in napari\n\n{_NOTE}\n\n{key_table()}\n",
        "reference/python.md": python_page(),
        "examples.md": examples_page(),
    }


def method_paths() -> dict[str, str]:
    """Return the path of the page of every method by the method's name."""
    return {name: f"reference/methods/{name}.md" for name in methods()}


def methods_page() -> str:
    """List all methods with the widget that napari shows for each."""
    widgets = _widget_names()
    rows = (
        (f"[`{name}`](methods/{name}.md)", method.title, method.summary, widgets.get(name, ""))
        for name, method in methods().items()
    )
    return f"# Methods\n\n{_NOTE}\n\n{table(('method', 'title', 'when to use it', 'widget in napari'), rows)}\n"


def _widget_names() -> dict[str, str]:
    """Name of the widget of every method, by the method's name."""
    contributions = PluginManifest.from_distribution("napari-tiltalign").contributions
    python_names = {command.id: command.python_name or "" for command in contributions.commands or ()}
    return {
        python_names[widget.command].partition(":")[2].replace("_", "-"): widget.display_name
        for widget in contributions.widgets or ()
        if python_names[widget.command].startswith("napari_tiltalign.ui.align_widget:")
    }


def method_page(method: Method) -> str:
    """Describe one method: when, how, and every option."""
    how = inspect.getdoc(sys.modules[type(method).__module__]) or ""
    options = method.Options.__name__
    return "\n\n".join(
        [
            f"# {method.title} (`{method.name}`)",
            method.summary,
            f"    napari-tiltalign align {method.name} INPUT --output DIR",
            "## Options",
            f"In Python they are the arguments of `{options}`; on the command line they are flags; in napari they are "
            "the form of the widget.",
            options_table(method.Options),
            "Every flag, also those that all methods share, is listed by "
            f"`napari-tiltalign align {method.name} --help` ([command line](../command-line.md#align)).",
            "## From the code",
            how.replace("::\n", ":\n"),
            _NOTE,
        ]
    )


def simulation_page() -> str:
    """Describe the simulator: its options, and what the named scenarios change."""
    rows = ((f"`{name}`", _changes(options)) for name, options in SCENARIOS.items())
    return "\n\n".join(
        [
            "# Simulation",
            _NOTE,
            f"    napari-tiltalign simulate DIR --scenario {next(iter(SCENARIOS))}",
            "## Options",
            options_table(Simulation),
            "## Scenarios",
            table(("scenario", "what differs from the defaults"), rows),
        ]
    )


def _changes(options: MethodOptions) -> str:
    changed = options.model_dump(exclude_defaults=True, exclude={"name"})
    return ", ".join(f"`{name}={value}`" for name, value in changed.items()) or "nothing"


def command_line_page() -> str:
    """Show the help of every command as it is printed."""
    sections = [f"# Command line\n\n{_NOTE}\n\n{_block(_help())}"]
    for command in _commands():
        sections.append(f"## {command}\n\n{_block(_help(command))}")
        if command in ("align", "watch"):
            example = next(iter(methods()))
            sections.append(
                f"The flags of a method stand under *Method*, here those of `{example}` ([the others](methods.md)). "
                f"All other flags are the same for every method.\n\n{_block(_help(command, example))}"
            )
    return "\n\n".join(sections) + "\n"


def _commands() -> list[str]:
    return sorted(name for name in build_app([]) if not name.startswith("-"))


def _help(*command: str) -> str:
    """Return what ``--help`` prints, in a window of a known width and without colours."""
    shown = io.StringIO()
    plain = {"COLUMNS": str(HELP_COLUMNS), "NO_COLOR": "1", "TERM": "dumb"}
    with patch.dict(os.environ, plain), contextlib.redirect_stdout(shown):
        code = main([*command, "--help"])
    if code:
        raise RuntimeError(f"the help of {command} cannot be shown: {shown.getvalue()}")
    return "\n".join(line.rstrip() for line in shown.getvalue().splitlines()).strip()


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def flags_page() -> str:
    """List every flag that a result can carry."""
    rows = ((f"`{name}`", meaning) for name, meaning in FLAG_MEANINGS.items())
    states = ((f"{state.value}", state.name.lower(), text) for state, text in _members(State))
    return "\n\n".join(
        [
            "# Flags and states",
            _NOTE,
            "A flag is a warning about a series, an image or a result. It says with numbers what it found, and stands "
            "in `alignment.json`, in the summary of the command line and in napari. No flag changes a result.",
            table(("flag", "meaning"), rows),
            "## States of an observation",
            "How the position of a bead or patch in one image came about (`Tracks.state`).",
            table(("number", "state", "meaning"), states),
        ]
    )


def exit_codes_page() -> str:
    """List the exit codes."""
    rows = ((f"{code.value}", f"`{code.name}`", text) for code, text in _members(ExitCode))
    return "\n\n".join(
        [
            "# Exit codes",
            _NOTE,
            "They are the same for every command; scripts and schedulers may build on them.",
            table(("code", "name", "meaning"), rows),
            "## Errors in Python",
            "Every error raised on purpose is a `TiltAlignError` (`napari_tiltalign.errors`). Anything else is a bug.",
            table(("class", "when"), ((f"`{name}`", doc) for name, doc in _error_classes())),
        ]
    )


def _members(kind: type[Enum]) -> Iterator[tuple[Enum, str]]:
    """Members of an enumeration with the text that stands under each in the source."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.Assign):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            yield kind[statement.targets[0].id], " ".join(text.split())


def _error_classes() -> Iterator[tuple[str, str]]:
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.TiltAlignError):
            yield name, (inspect.getdoc(value) or "").partition("\n")[0]


def python_page() -> str:
    """Document every public name, functions first."""
    public = {name: getattr(napari_tiltalign, name) for name in napari_tiltalign.__all__}
    options = {n: v for n, v in public.items() if inspect.isclass(v) and issubclass(v, MethodOptions)}
    functions = {n: v for n, v in public.items() if inspect.isfunction(v)}
    rest = {n: v for n, v in public.items() if n not in options and n not in functions}
    parts = [
        "# Python\n\nEverything that `import napari_tiltalign` offers. The examples run in the tests, in a folder with "
        "a small simulated project (`tilt_series.star`)."
    ]
    for title, group in (("Functions", functions), ("Data", rest), ("Options", options)):
        parts.append(f"## {title}")
        parts += [_api_entry(value, members=group is not options) for value in group.values()]
    parts.append("## Geometry\n\n::: napari_tiltalign.geometry.ViewGeometry")
    return "\n\n".join(parts) + "\n"


def examples_page() -> str:
    """Show the scripts of the folder ``examples``."""
    parts = ["# Examples\n\nShort scripts to start your own from; the tests run them."]
    for script in sorted(EXAMPLES.glob("*.py")):
        title = script.stem.replace("_", " ").capitalize()
        parts.append(f"## {title}\n\n`examples/{script.name}`\n\n```python\n{script.read_text(encoding='utf-8')}```")
    return "\n\n".join(parts) + "\n"


def _api_entry(value: type, *, members: bool) -> str:
    shown = "" if members else "\n    options:\n      members: []"  # the options are in the tables of the methods
    return f"::: {value.__module__}.{value.__qualname__}{shown}"
