"""Named tilt series to test methods on: what each of them makes hard."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from napari_tiltalign.simulation.options import Simulation

_WITHOUT_GOLD = Simulation(n_beads=0)

_SCENARIOS: dict[str, Simulation] = {
    # gold beads
    "easy": Simulation(),
    "sparse": Simulation(n_beads=5),
    "crowded": Simulation(n_beads=48, clustered_percent=40, n_dirt=20),
    "low-dose": Simulation(dose_per_view_e_per_A2=0.7, tilt_step_deg=2, thickness_nm=220),
    "big-shift": Simulation(n_jumps=6, jump_percent=27.5),
    "bad-views": Simulation(n_dark_views=2, n_blocked_views=1, n_duplicated_views=1),
    "wrong-axis": Simulation(axis_error_deg=6),
    "few-views": Simulation(tilt_step_deg=10),
    "deforming": Simulation(n_beads=50, deformation_percent=2),
    "flipped-hand": Simulation(wrong_tilt_sign=True),
    "two-sizes": Simulation(second_bead_diameter_nm=15),
    "bright-beads": Simulation(bright_beads=True),
    # no gold
    "insitu": _WITHOUT_GOLD.replace(texture="cytoplasm", thickness_nm=175, pretilt_deg=10, tilt_max_deg=51),
    "thin": _WITHOUT_GOLD.replace(texture="particles", thickness_nm=65),
    "lamella": _WITHOUT_GOLD.replace(
        texture="cytoplasm", thickness_nm=150, pretilt_deg=-11, tilt_min_deg=-50, tilt_max_deg=62, tilt_step_deg=2
    ),
    # no slab
    "needle": _WITHOUT_GOLD.replace(
        texture="needle",
        imaging="haadf",
        thickness_nm=90,
        image_rows_px=256,
        image_columns_px=256,
        tilt_min_deg=-76,
        tilt_max_deg=76,
        tilt_step_deg=2,
        scheme="one-way",
        dose_per_view_e_per_A2=10,
        detector_offset_counts=200,
    ),
    # small and fast
    "demo": Simulation(image_rows_px=384, image_columns_px=384, tilt_step_deg=4, n_beads=15),
}

SCENARIOS: Mapping[str, Simulation] = MappingProxyType(
    {name: options.replace(name=f"SIM_{name.replace('-', '_')}") for name, options in _SCENARIOS.items()}
)
"""Options by name; `Simulation.replace` makes variants (``SCENARIOS["sparse"].replace(seed=202)``)."""
