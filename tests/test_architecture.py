"""Rules about the code itself that no linter checks: what an import costs, how long files and functions may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MOST_LINES_IN_FILE = 400
MOST_LINES_IN_FUNCTION = 80
GUI = {"napari", "magicgui", "qtpy", "PyQt6", "PySide6", "vispy"}
HEAVY = {"numba", "pandas", "scipy", "skimage", "mrcfile", "starfile"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("napari_tiltalign", GUI | HEAVY | {"numpy"}),
        ("napari_tiltalign.model", GUI | HEAVY),
        ("napari_tiltalign.cli", GUI),
        ("napari_tiltalign.methods.fiducial", GUI | {"mrcfile", "starfile"}),
    ],
)
def test_import_brings_only_what_it_needs(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.split())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES_IN_FILE
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1 - docstring_lines(node)) > MOST_LINES_IN_FUNCTION
    ]
    assert not long


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    return 0 if ast.get_docstring(node) is None else first.end_lineno - first.lineno + 1
