"""Labels and lists that wrap their text to the width there is, and widgets that scroll where there is little room."""

from __future__ import annotations

from qtpy.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from qtpy.QtGui import QResizeEvent, QShowEvent
from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeWidget,
    QWidget,
)

_ROW_MARGIN_PX = 8
_NO_LIMIT_PX = 10_000
_LEAST_HEIGHT_PX = 160
"""Of what scrolls."""


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


class Scrolling(QScrollArea):
    """A form that is shown whole where there is room, and scrolls where there is little.

    Parameters
    ----------
    inside
        The widget.
    """

    def __init__(self, inside: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        inside.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)  # scroll, never squeeze
        self.setWidget(inside)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """All of the widget."""
        inside = self.widget()
        return inside.sizeHint() if inside is not None else super().sizeHint()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """A few lines of the widget, in its whole width beside the bar."""
        hint = self.sizeHint()
        inside, bar = self.widget(), self.verticalScrollBar()
        width = hint.width() if inside is None else inside.minimumSizeHint().width()
        width += 0 if bar is None else bar.sizeHint().width()
        return QSize(width, min(hint.height(), _LEAST_HEIGHT_PX))

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Let fields begin in one line; how wide their labels are is known when they have the style of the window."""
        labels = self.findChildren(QLabel)
        widest = max((label.sizeHint().width() for label in labels), default=0)
        for label in labels:
            label.setMinimumWidth(widest)
        self.updateGeometry()
        super().showEvent(event)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Show the bar where it scrolls; left to itself, Qt does not see that after the style has made rows higher."""
        little = self.height() < self.sizeHint().height()
        policy = Qt.ScrollBarPolicy.ScrollBarAlwaysOn if little else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        if policy != self.verticalScrollBarPolicy():
            self.setVerticalScrollBarPolicy(policy)
        super().resizeEvent(event)
