"""Labels that wrap their text to the width there is, instead of asking for a width that suits the text."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QSizePolicy


def let_wrap(label: QLabel) -> None:
    """Let a label wrap its text.

    A wrapping label of Qt asks for a width that makes a long text look well; a docked widget would take that from the
    images. This one takes what width there is, and as much height as the text then needs.
    """
    label.setWordWrap(True)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)
    label.setSizePolicy(policy)
