"""The napari plugin: a thin shell over the rest."""
