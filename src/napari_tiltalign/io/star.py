"""STAR files as tables of text, read strictly and written back unchanged.

Why there is a reader here beside the library ``starfile``: version 0.5.13 guesses the type of every cell (a series
called ``001`` becomes 1, one called ``nan`` is lost), rewrites apostrophes as quotes, treats ``#`` inside a name as
a comment, fills up a row that was cut, returns nothing for a file that is no STAR file, keeps the last of two tables
of one name, and remembers the lines of a file that has since been repaired. Each of these loses a user's data
without a word. Here every cell stays the text it is, and what is wrong with a file is said with its line.

Writing goes through ``starfile``, with cells that are quoted so that they can be read back, and without the time in
the first line, so that equal tables give equal bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.files import write_atomic
from napari_tiltalign.model import Table

_TOKEN = re.compile(r"""[ \t]*(?:"(?P<double>.*?)"(?=[ \t]|$)|'(?P<single>.*?)'(?=[ \t]|$)|(?P<bare>[^ \t]+))""")
_RESERVED_START = re.compile(r"""["'#_]|data_|loop_|save_|global_|stop_""")
_VERSION_LINE = "# version 50001"


def read_star(path: str | os.PathLike[str]) -> dict[str, Table]:
    """Read all tables of a STAR file.

    Parameters
    ----------
    path
        A STAR file as RELION, ``starfile`` or a person writes it: line ends of any kind, UTF-8 with or without
        a byte-order mark, comments, quoted cells.

    Returns
    -------
    dict
        Name of each block (without ``data_``) to its table, in file order. Every cell is text.

    Raises
    ------
    BadInput
        If it cannot be read, is no STAR file, was cut, holds a name twice, or has a row of the wrong length. The
        message names the file and the line.
    """
    where = Path(path)
    try:
        text = where.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {where}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not a STAR file: it is not text in UTF-8") from error
    return parse_star(text, str(where))


def parse_star(text: str, source: str = "text") -> dict[str, Table]:
    """Read all tables of a STAR file's text; see `read_star`.

    Parameters
    ----------
    text
        The contents.
    source
        What to call them in messages.
    """
    if "\0" in text:
        raise BadInput(f"{source} is not a STAR file: it is not text")
    parser = _Parser(source)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        parser.take(number, line)
    return parser.finish(last_line=lines[-1])


@dataclass
class _Block:
    """A table while it is being read."""

    name: str
    line: int
    columns: dict[str, list[str]] = field(default_factory=dict)
    is_loop: bool = False
    n_rows: int = 0

    def table(self) -> Table:
        return Table({name: tuple(cells) for name, cells in self.columns.items()}, self.is_loop)


class _Parser:
    """Takes a STAR file line by line."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.blocks: dict[str, _Block] = {}
        self.block: _Block | None = None
        self.line_number = 0

    def take(self, line_number: int, line: str) -> None:
        self.line_number = line_number
        cells = list(self._cells(line))
        if not cells:
            return
        word = "" if line.lstrip(" \t")[0] in "\"'" else cells[0]  # what is quoted is never a keyword
        if word.startswith("data_") and not self._can_be_row(cells):
            self._open(" ".join(cells)[len("data_") :])
        elif self.block is None:
            self._fail("text outside of any table; a STAR file's tables begin with data_NAME")
        elif word == "loop_" and len(cells) == 1:
            self._open_loop(self.block)
        elif word.startswith("_") and not self._can_be_row(cells):
            self._add_column(self.block, cells)
        else:
            self._add_row(self.block, cells)

    def finish(self, last_line: str) -> dict[str, Table]:
        if not self.blocks:
            raise BadInput(f"{self.source} is not a STAR file: it is empty or has no data_NAME line")
        in_rows = self.block is not None and self.block.n_rows > 0
        if in_rows and list(self._cells(last_line)):
            self._fail("the last row does not end with a line break, so the file may have been cut; if it is "
                       "complete, add an empty line at its end")  # fmt: skip
        return {name: block.table() for name, block in self.blocks.items()}

    def _cells(self, line: str) -> Iterator[str]:
        """Split a line at blanks; a cell may be quoted, and ``#`` at the start of one begins a comment."""
        for match in _TOKEN.finditer(line):
            bare = match["bare"]
            if bare is None:
                yield match[match.lastgroup or 0]
            elif bare.startswith("#"):
                return
            elif bare[0] in "\"'":
                self._fail(f"a quote is opened and never closed: {bare}")
            else:
                yield bare

    def _can_be_row(self, cells: list[str]) -> bool:
        """Whether a line that looks like a keyword is a row: a path may begin with ``data_`` or ``_``."""
        block = self.block
        if block is None or not block.is_loop or not block.columns:
            return False
        return len(cells) > 1 and len(cells) == len(block.columns)

    def _open(self, name: str) -> None:
        if name in self.blocks:
            self._fail(f"table data_{name} stands here and in line {self.blocks[name].line}; remove one of the two")
        self.block = self.blocks[name] = _Block(name, self.line_number)

    def _open_loop(self, block: _Block) -> None:
        if block.is_loop or block.columns:
            self._fail(f"a second table within data_{block.name}; give it a data_NAME line of its own")
        block.is_loop = True

    def _add_column(self, block: _Block, cells: list[str]) -> None:
        name = cells[0][1:]
        if block.n_rows and block.is_loop:
            self._fail(f"column _{name} after the rows of data_{block.name} have begun")
        if name in block.columns:
            self._fail(f"column _{name} stands twice in data_{block.name}; remove one of the two")
        expected = 1 if block.is_loop else 2
        if len(cells) != expected:
            self._fail(f"_{name} of data_{block.name} has {len(cells) - 1} values, expected {expected - 1}; "
                       "values with blanks need quotes")  # fmt: skip
        block.columns[name] = cells[1:]
        block.n_rows += 0 if block.is_loop else 1

    def _add_row(self, block: _Block, cells: list[str]) -> None:
        if not block.columns or not block.is_loop:
            self._fail(f"text that belongs to no column of data_{block.name}")
        block.n_rows += 1
        if len(cells) != len(block.columns):
            self._fail(
                f"row {block.n_rows} of data_{block.name} has {len(cells)} of {len(block.columns)} values; "
                + ("was the file cut?" if len(cells) < len(block.columns) else "values with blanks need quotes")
            )
        for column, cell in zip(block.columns.values(), cells, strict=True):
            column.append(cell)

    def _fail(self, problem: str) -> NoReturn:
        raise BadInput(f"{self.source}, line {self.line_number}: {problem}")


def star_text(blocks: Mapping[str, Table]) -> str:
    """Write tables as the text of a STAR file that gives the same tables when it is read.

    Parameters
    ----------
    blocks
        Name of each block (without ``data_``) to its table.

    Raises
    ------
    BadInput
        If a cell or a name cannot be expressed (it holds a tab, a line break, or both kinds of quotes before blanks).
    """
    import pandas as pd  # half a second that reading can do without
    import starfile

    data: dict[str, object] = {}
    for name, table in blocks.items():
        _check_block_name(name)
        quoted = {column: [_Verbatim(c) for c in cells] for column, cells in table.columns.items()}
        data[name] = pd.DataFrame(quoted, dtype=object) if table.is_loop else {c: v[0] for c, v in quoted.items()}
    text: str = starfile.to_string(data)
    _time_stamp, rest = text.split("\n", 1)
    return f"\n{_VERSION_LINE}\n\n{rest.lstrip()}"


def write_star(path: str | os.PathLike[str], blocks: Mapping[str, Table]) -> None:
    """Write tables to a STAR file; what is at that name is replaced in one step.

    Raises
    ------
    BadInput
        If a cell cannot be expressed; see `star_text`.
    OSError
        If the file cannot be written.
    """
    write_atomic(path, star_text(blocks))


class _Verbatim:
    """A cell that is quoted already. It is no ``str``, so ``starfile`` adds no quotes of its own."""

    __slots__ = ("text",)

    def __init__(self, cell: str) -> None:
        self.text = _quoted(cell)

    def __str__(self) -> str:
        return self.text


def can_hold(cell: str) -> bool:
    """Whether a cell of a STAR file can be a text."""
    try:
        _quoted(cell)
    except BadInput:
        return False
    return True


def _quoted(cell: str) -> str:
    """Return a cell as it must stand in a STAR file."""
    if "\t" not in cell and cell.splitlines() in ([cell], []):
        if cell and " " not in cell and not _RESERVED_START.match(cell):
            return cell
        for quote in "\"'":
            if f"{quote} " not in cell:
                return f"{quote}{cell}{quote}"
    raise BadInput(f"a STAR file cannot hold the value {cell!r}; rename what it refers to")


def _check_block_name(name: str) -> None:
    """Refuse names of tables that would be read back as something else."""
    try:
        same = list(parse_star(f"data_{name}\n")) == [name]
    except BadInput:
        same = False
    if not same:
        raise BadInput(f"a STAR file cannot hold a table named {name!r}; rename the series")
