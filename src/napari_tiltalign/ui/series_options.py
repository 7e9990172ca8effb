"""Options of one method for a whole dataset, with exceptions for single series."""

from __future__ import annotations

from napari_tiltalign.methods.base import MethodOptions


class SeriesOptions:
    """Options that hold for all series but those that have their own.

    Parameters
    ----------
    common
        For all series.

    Attributes
    ----------
    own
        Series name to its own options.
    """

    def __init__(self, common: MethodOptions) -> None:
        self.common = common
        self.own: dict[str, MethodOptions] = {}

    def of(self, series_name: str) -> MethodOptions:
        """Options that hold for a series."""
        return self.own.get(series_name, self.common)

    def change(self, series_name: str, options: MethodOptions) -> None:
        """Change the options of a series if it has its own, else those of all."""
        if series_name in self.own:
            self.own[series_name] = options
        else:
            self.common = options

    def set_own(self, series_name: str, own: bool) -> None:
        """Give a series options of its own, at first those of all; or let it follow the others again."""
        if own:
            self.own.setdefault(series_name, self.common)
        else:
            self.own.pop(series_name, None)
