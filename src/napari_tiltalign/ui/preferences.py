"""What the user has set on the page of this plugin in napari's preferences."""

from __future__ import annotations

from dataclasses import dataclass

from napari.settings import get_plugin_settings

PLUGIN = "napari-tiltalign"


@dataclass(frozen=True, slots=True)
class Preferences:
    """Preferences, with the defaults that the manifest has too.

    Attributes
    ----------
    bead_diameter_nm
        Diameter that forms offer for gold beads, nm.
    folder_name
        Name that is proposed for the folder of results.
    sample_path
        File that *Open Sample* opens as a tilt series of the user's own; empty for none.
    cache_mib
        Memory for the images of one stack, MiB.
    """

    bead_diameter_nm: float = 10.0
    folder_name: str = "tiltalign"
    sample_path: str = ""
    cache_mib: int = 512


def preferences() -> Preferences:
    """Return the preferences; the defaults where napari does not know the plugin."""
    try:
        group = get_plugin_settings(PLUGIN).general
    except (KeyError, AttributeError, ValueError):
        return Preferences()
    return Preferences(
        float(group.bead_diameter_nm), str(group.folder_name), str(group.sample_path), int(group.cache_mib)
    )
