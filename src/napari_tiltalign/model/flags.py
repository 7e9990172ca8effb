"""The registry of flags: everything a result or a series can warn about, in one place.

The documentation and the report are generated from this table, so they cannot drift from the code.
"""

from __future__ import annotations

from dataclasses import dataclass

FLAG_MEANINGS: dict[str, str] = {
    # about the input
    "pixel_size_disagrees": "The image headers and the tables give different pixel sizes; the tables win.",
    "duplicate_angle": "Two or more images have the same tilt angle.",
    "angle_gap": "Neighbouring tilts are more than 15 degrees apart.",
    "one_sided": "All tilts lie on one side of zero.",
    "pretilt_suspected": "The tilt range is not centred on zero; the specimen may be pre-tilted.",
    "dose_order_inconsistent": "The dose column contradicts the order of acquisition, or is missing.",
    "images_missing": "Some images could not be read and were excluded.",
    "images_elsewhere": "Some images lie outside of the project's folder. They are read, and nothing is written there.",
    "nan_pixels_filled": "Some pixels were not finite and were replaced by the image's median.",
    "name_collision_ignoring_case": "Two series names differ only by case or Unicode form.",
    "metadata_repaired": "A value of the input was repaired; the text says which and how.",
    "import_incomplete": "The file read holds something that this package's geometry does not; the text says what.",
    # about the images
    "no_contrast": "An image is constant, black or saturated and was excluded.",
    "dark_view": "An image is much darker than its neighbours and was excluded.",
    "blocked_view": "A large part of an image is blocked and that part was masked.",
    # about the alignment
    "rank_deficient": "The observations do not determine every parameter; the priors decide what is left.",
    "not_converged": "The solver stopped before it converged.",
    "few_beads": "Fewer than three beads could be followed; the geometry rests mostly on the priors.",
    "few_places": "A few places of the specimen decide the result; if one of them moves by itself, all follow it.",
    "too_many_candidates": "There were so many candidate beads that only the strongest were used.",
    "view_not_aligned": "Some images could not be tied to the others; their geometry is interpolated.",
    "outlier_shift": "An image is shifted by more than half the field.",
    "axis_far_from_nominal": "The tilt axis found is far from the nominal one.",
    "hand_undetermined": "The hand (the sign of the tilts and of z) cannot be told from positions alone.",
    "hand_contradicted": "The defocus gradient says that the specimen is mirrored against what the input says.",
    "magnification_not_in_star": "Magnification was solved; STAR holds the best geometry without it.",
    "suspect_tracks": "Some tracks fit much worse than the others: wrong or touching features, or no features at all.",
    "score_without_peak": "A quantity was looked for where its score has no peak; the best value tried is at the end.",
    "high_residual": "The residual is much larger than the measuring error; the specimen may have deformed.",
    "no_slab": "The specimen does not behave like a slab; the geometry may be wrong, and other methods suit it better.",
    "method_chosen": "The method was chosen by looking at the series; the text says which and why.",
    "local_motion": "A model of local specimen motion lowers the cross-validated error and is stored.",
    "program_complained": "An external program reported an error, but left a complete result.",
    "binned_for_memory": "The images were binned to fit into the memory, as was asked for (--too-large bin).",
    "cpu_fallback": "The GPU could not be used; the work was done on the CPU.",
}


@dataclass(frozen=True, slots=True)
class Flag:
    """One warning about a series, an image or a result.

    Attributes
    ----------
    name
        A key of `FLAG_MEANINGS`.
    detail
        What exactly, with numbers, units and names.
    tilt_ids
        The images concerned; empty if the whole series is.
    """

    name: str
    detail: str = ""
    tilt_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in FLAG_MEANINGS:
            raise ValueError(f"unknown flag {self.name!r}; add it to FLAG_MEANINGS")

    @property
    def meaning(self) -> str:
        """What the flag means, in one sentence."""
        return FLAG_MEANINGS[self.name]
