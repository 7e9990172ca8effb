"""Simulate a tilt series whose true alignment is known."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from napari_tiltalign.geometry import FloatArray, ViewGeometry
from napari_tiltalign.images.compute import map_views
from napari_tiltalign.methods.base import Progress, silent
from napari_tiltalign.model import REJECTION_REASONS, Alignment, ArrayImage, Provenance, State, Tilt, TiltSeries, Tracks
from napari_tiltalign.simulation.acquisition import Acquisition, Fate, acquire
from napari_tiltalign.simulation.beam import Frame, detect, scattered_far, transmitted
from napari_tiltalign.simulation.deformation import Deformation
from napari_tiltalign.simulation.gold import Beads
from napari_tiltalign.simulation.options import Simulation
from napari_tiltalign.simulation.render import add_sharp_balls, add_soft_balls
from napari_tiltalign.simulation.specimen import Specimen, draw_specimen


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSeries:
    """A tilt series with everything that is true about it.

    Attributes
    ----------
    series
        What a microscope would deliver, in the order of acquisition: nominal tilts and axis, faults unmarked.
    truth
        The true geometry. Its frame is that of the slab: level, centred on height 0. Dark and blocked images are not
        included, with a reason. Its tracks hold every bead in every image whose field it is in: true positions and
        residuals (not 0 where the specimen deforms); in faulty images they are rejected.
    beads
        The beads, one for each track of the truth, in the same order.
    deformation
        How the specimen moves in itself; None if it is rigid.
    options
        What was asked for.
    """

    series: TiltSeries
    truth: Alignment
    beads: Beads
    deformation: Deformation | None
    options: Simulation


def simulate(options: Simulation | None = None, *, workers: int = 0, progress: Progress = silent) -> SimulatedSeries:
    """Simulate a tilt series.

    Balls of gold and protein in a slab of ice are projected through the package's own projection model
    (`napari_tiltalign.geometry`), turned into a wave, imaged with phase contrast and counted as electrons.

    Parameters
    ----------
    options
        What to simulate; the defaults if None.
    workers
        Threads; 0 takes one per core. The result does not depend on it.
    progress
        Told how far it is; may raise `Cancelled`.

    Returns
    -------
    SimulatedSeries
        The same for the same options, to the last bit.

    Examples
    --------
    >>> from napari_tiltalign import Simulation, simulate
    >>> small = Simulation(image_rows_px=128, image_columns_px=128, tilt_step_deg=30.0, texture="none")
    >>> simulated = simulate(small)
    >>> simulated.series.tilt_ids[:2]
    ('SIM_01_001_0.0', 'SIM_01_002_30.0')
    """
    options = options or Simulation()
    acquisition = acquire(options)
    specimen = draw_specimen(options, acquisition)
    frame = Frame.of(options)
    done = itertools.count(1)

    def take_image(index: int) -> NDArray[np.float32]:
        image = _image(index, acquisition, specimen, frame, options)
        progress(next(done) / len(acquisition), "Simulating images")
        return image

    images = map_views(take_image, range(len(acquisition)), workers)
    series = _as_reported(acquisition, images, options)
    beads, tracks = _true_tracks(series, acquisition, specimen)
    truth = Alignment(
        series_name=options.name,
        tilt_ids=series.tilt_ids,
        geometry=acquisition.geometry,
        pixel_size_angst=options.pixel_size_angst,
        image_shape_yx=options.image_shape_yx,
        included=np.array([fate is Fate.GOOD for fate in acquisition.fates]),
        reasons=tuple(fate.value for fate in acquisition.fates),
        tracks=tracks,
        provenance=Provenance("simulation", options.model_dump(), version("napari-tiltalign")),
    )
    return SimulatedSeries(series, truth, beads, specimen.deformation, options)


def _image(
    index: int, acquisition: Acquisition, specimen: Specimen, frame: Frame, options: Simulation
) -> NDArray[np.float32]:
    """Take one image."""
    view = acquisition.geometry.take([index])
    dose = float(acquisition.pre_exposure_e_per_A2[index])
    magnification = float(view.magnification[0])
    maps = {}
    for kind, balls, add in (
        ("protein", specimen.protein, add_soft_balls),
        ("gold", specimen.gold, add_sharp_balls),
    ):
        thickness = np.zeros(frame.shape_yx, np.float32)
        seen = view.project(specimen.moved(balls.centre_zyx_angst, dose))[0]
        radius = balls.radius_angst * magnification / frame.fine_pixel_angst
        add(thickness, frame.fine_index(seen), radius, balls.density)
        maps[kind] = thickness * np.float32(frame.fine_pixel_angst)
    if options.imaging == "haadf":
        arriving = scattered_far(maps["protein"], maps["gold"], frame)
    else:
        height, ice = specimen.slab_in_view(view, frame)
        arriving = ice * transmitted(maps["protein"], maps["gold"], height, options.underfocus_um * 1e4, frame)
    return detect(arriving, acquisition.fates[index], options, options.random("detector", index))


def _as_reported(acquisition: Acquisition, images: list[NDArray[np.float32]], options: Simulation) -> TiltSeries:
    """Describe the images as a microscope does."""
    nominal = acquisition.stage_tilt_deg * (-1.0 if options.wrong_tilt_sign else 1.0) + 0.0  # no -0.0
    tilts = []
    for i, (tilt_deg, image) in enumerate(zip(nominal.tolist(), images, strict=True)):
        tilt_id = f"{options.name}_{i + 1:03d}_{tilt_deg:.1f}"
        image.flags.writeable = False
        tilts.append(
            Tilt(
                tilt_id=tilt_id,
                image=ArrayImage(image, tilt_id),
                nominal_tilt_deg=tilt_deg,
                nominal_axis_deg=options.axis_deg,
                pre_exposure_e_per_A2=float(acquisition.pre_exposure_e_per_A2[i]),
                nominal_defocus_um=-options.underfocus_um,
            )
        )
    return TiltSeries(
        options.name, tuple(tilts), options.pixel_size_angst, options.image_shape_yx, source=f"simulation {options!r}"
    )


def _true_tracks(series: TiltSeries, acquisition: Acquisition, specimen: Specimen) -> tuple[Beads, Tracks]:
    """Where every bead is in every image; beads that no image shows are left out."""
    positions, rigid = _bead_positions_px(series, acquisition, specimen)
    inside = np.all((positions >= 0) & (positions <= np.array(series.image_shape_yx) - 1), axis=2)
    kept = inside.any(axis=0)
    beads, positions, rigid, inside = specimen.beads.take(kept), positions[:, kept], rigid[:, kept], inside[:, kept]
    tilt, track = np.nonzero(inside)
    order = np.lexsort((tilt, track))
    tilt, track = tilt[order], track[order]
    tracks = Tracks.from_observations(series.tilt_ids, beads.centre_zyx_angst, track, tilt, positions[tilt, track])
    faulty = np.array([fate is not Fate.GOOD for fate in acquisition.fates])[tilt]
    return beads, tracks.replace(
        state=np.where(faulty, State.REJECTED, State.MEASURED),
        reason=np.where(faulty, REJECTION_REASONS.index("outside"), 0),
        weight=np.where(faulty, 0.0, 1.0),
        residual_yx_px=positions[tilt, track] - rigid[tilt, track],
    )


def _bead_positions_px(
    series: TiltSeries, acquisition: Acquisition, specimen: Specimen
) -> tuple[FloatArray, FloatArray]:
    """Pixel positions of all beads in all images, shape (n, p, 2): as they are, and without deformation."""
    geometry: ViewGeometry = acquisition.geometry
    start = specimen.beads.centre_zyx_angst
    rigid = geometry.project(start)
    moved = np.stack(
        [
            geometry.take([i]).project(specimen.moved(start, float(dose)))[0]
            for i, dose in enumerate(acquisition.pre_exposure_e_per_A2)
        ]
    )
    centre_px = np.array([size // 2 for size in series.image_shape_yx])
    return moved / series.pixel_size_angst + centre_px, rigid / series.pixel_size_angst + centre_px
