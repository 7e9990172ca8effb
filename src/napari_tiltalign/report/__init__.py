"""One self-contained HTML page for a dataset: what became of every series, how good it is, and why."""

from napari_tiltalign.report.dataset import ReportOptions, write_report

__all__ = ["ReportOptions", "write_report"]
