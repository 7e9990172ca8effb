"""A bar for every series that is being aligned."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

_STEPS = 1000
_PERCENT = "%\u2060"
"""A sign of percent with nothing to be seen after it, so that Qt does not take %p, %v or %m for its own."""
MOST_BARS = 12
"""More at a time would push everything else out of the dock; the rest is counted."""


class SeriesProgress(QWidget):
    """Bars of the series that are being aligned, which come and go; nothing is shown while there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.bars: dict[str, QProgressBar] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self.setVisible(False)

    def show_running(self, running: Mapping[str, tuple[float, str]]) -> None:
        """Show these series and no others.

        Parameters
        ----------
        running
            Name of a series to how far it is (0 to 1) and what is done with it.
        """
        shown = dict(list(running.items())[:MOST_BARS])
        for name in [name for name in self.bars if name not in shown]:
            bar = self.bars.pop(name)
            self._layout.removeWidget(bar)
            bar.deleteLater()
        for name, (fraction, message) in shown.items():
            bar = self.bars.get(name) or self._new_bar(name)
            bar.setValue(round(_STEPS * min(1.0, max(0.0, fraction))))
            text = f"{name}: {message}"
            bar.setFormat(text.replace("%", _PERCENT))
            bar.setToolTip(text)
        self.setVisible(bool(self.bars))

    def _new_bar(self, name: str) -> QProgressBar:
        bar = QProgressBar(self)
        bar.setObjectName(name)
        bar.setRange(0, _STEPS)
        bar.setTextVisible(True)
        self._layout.addWidget(bar)
        self.bars[name] = bar
        return bar
