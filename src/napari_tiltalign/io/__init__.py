"""Reading and writing; the only package that knows file formats."""

from napari_tiltalign.io.reading import read

__all__ = ["read"]
