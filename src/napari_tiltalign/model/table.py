"""A table of a STAR file as text, so that whatever was read can be written back unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns of text cells, all of one length.

    Attributes
    ----------
    columns
        Column name (without the leading underscore) to its cells, in file order.
    is_loop
        Whether the file spells it as a loop; a plain block of name-value pairs has one row.
    """

    columns: Mapping[str, tuple[str, ...]]
    is_loop: bool = True

    def __post_init__(self) -> None:
        columns = {name: tuple(cells) for name, cells in self.columns.items()}
        lengths = {len(cells) for cells in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        object.__setattr__(self, "columns", MappingProxyType(columns))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> list[dict[str, str]]:
        """Return every row as column name to cell."""
        return [dict(zip(self.columns, cells, strict=True)) for cells in zip(*self.columns.values(), strict=True)]

    @classmethod
    def from_rows(cls, rows: list[dict[str, str]], is_loop: bool = True) -> Table:
        """Build a table from rows that share their columns and order of columns."""
        names = list(rows[0]) if rows else []
        return cls({name: tuple(row[name] for row in rows) for name in names}, is_loop)
