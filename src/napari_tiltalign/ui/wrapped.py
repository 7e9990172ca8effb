"""Labels and lists that wrap their text to the width there is."""

from __future__ import annotations

from qtpy.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QStyledItemDelegate, QStyleOptionViewItem, QTreeWidget

_ROW_MARGIN_PX = 8
_NO_LIMIT_PX = 10_000


def let_wrap(label: QLabel) -> None:
    """Let a label wrap its text.

    A wrapping label of Qt asks for a width that makes a long text look well; a docked widget would take that from the
    images. This one takes what width there is, and as much height as the text then needs.
    """
    label.setWordWrap(True)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)
    label.setSizePolicy(policy)


def let_rows_wrap(tree: QTreeWidget) -> None:
    """Let the rows of a list with one column wrap their text, and be as high as that needs.

    Where a style sheet is in use, as in napari, Qt gives every row the height of one line.
    """
    tree.setWordWrap(True)
    tree.setItemDelegate(_Rows(tree))
    header = tree.header()
    if header is not None:
        header.sectionResized.connect(tree.scheduleDelayedItemsLayout)


class _Rows(QStyledItemDelegate):
    """Rows as high as their wrapped text."""

    def __init__(self, tree: QTreeWidget) -> None:
        super().__init__(tree)
        self._tree = tree

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:  # noqa: N802
        """Room for the text at the width of the column."""
        width = self._tree.columnWidth(index.column())
        room = QRect(0, 0, width - _ROW_MARGIN_PX, _NO_LIMIT_PX)
        text = str(index.data(Qt.ItemDataRole.DisplayRole))
        needed = option.fontMetrics.boundingRect(room, int(Qt.TextFlag.TextWordWrap.value), text)
        return QSize(width, needed.height() + _ROW_MARGIN_PX)
