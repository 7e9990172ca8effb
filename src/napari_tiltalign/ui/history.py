"""Undo and redo as a list of frozen values."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class History(Generic[T]):
    """A value with its past and its undone future.

    Parameters
    ----------
    value
        Where it starts.
    capacity
        How many steps can be undone; older ones are forgotten.
    """

    def __init__(self, value: T, capacity: int = 200) -> None:
        self._values = [value]
        self._labels: list[str] = []  # label i leads from value i to value i + 1
        self._at = 0
        self._capacity = capacity

    @property
    def value(self) -> T:
        """The value now."""
        return self._values[self._at]

    @property
    def undo_label(self) -> str:
        """What `undo` would undo; empty if there is nothing."""
        return self._labels[self._at - 1] if self._at else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would repeat; empty if there is nothing."""
        return self._labels[self._at] if self._at < len(self._labels) else ""

    def push(self, value: T, label: str) -> None:
        """Go on to a new value; what had been undone is forgotten."""
        if not label:
            raise ValueError("a step needs a label")
        del self._values[self._at + 1 :], self._labels[self._at :]
        self._values.append(value)
        self._labels.append(label)
        surplus = max(0, len(self._labels) - self._capacity)
        del self._values[:surplus], self._labels[:surplus]
        self._at = len(self._labels)

    def amend(self, value: T) -> None:
        """Replace the value now, without a step of its own."""
        self._values[self._at] = value

    def undo(self) -> bool:
        """Go back one step; False if there is none."""
        if not self._at:
            return False
        self._at -= 1
        return True

    def redo(self) -> bool:
        """Repeat the step undone last; False if there is none."""
        if self._at == len(self._labels):
            return False
        self._at += 1
        return True
