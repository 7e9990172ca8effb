"""The command line: a thin face on `napari_tiltalign.batch` and `napari_tiltalign.io`."""

from napari_tiltalign.cli.app import main

__all__ = ["main"]
