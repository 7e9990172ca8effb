"""Align a series by several methods and let independent evidence say which result is best.

The judge knows nothing of how an alignment was made: it looks for beads by itself, and otherwise at what views far away
predict of a view and how sharp the reconstruction is.

    python compare_methods.py tilt_series.star [--series TS_01] [--methods fiducial slab] [--output best]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_tiltalign import Alignment, TiltSeries, align, read, write
from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.methods.base import method, methods, unavailable_because
from napari_tiltalign.quality.scores import Judge


def main() -> None:
    """Compare the methods that the command line names, or all that can be used here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path, help="RELION's STAR file, or a stack with its angles beside it")
    parser.add_argument("--series", help="name of the series; the first one without it")
    parser.add_argument("--methods", nargs="*", help="names of methods; without it, all that can be used here")
    parser.add_argument("--output", type=Path, default=Path("best"), help="folder for the best alignment")
    arguments = parser.parse_args()

    dataset = read(arguments.input)
    series = dataset[arguments.series] if arguments.series else dataset.series[0]
    names = arguments.methods or [name for name in methods() if not unavailable_because(method(name))]
    found = aligned(series, names)
    judge = Judge(series)  # what is the same for all alignments is found out once
    scores = {name: judge(alignment) for name, alignment in found.items()}
    for name in sorted(scores, key=lambda name: -scores[name].score):
        print(f"{name}: score {scores[name].score:.1f}, {scores[name].grade}: {scores[name].reasons[0]}")
    if not scores:
        parser.exit(3, "no method could align the series\n")
    best = max(scores, key=lambda name: scores[name].score)
    write(dataset.only([series.name]), {series.name: found[best]}, arguments.output)
    print(f"the best one, {best}, is in {arguments.output}")


def aligned(series: TiltSeries, names: list[str]) -> dict[str, Alignment]:
    """Align a series by every method, with its defaults; a method that fails is told and left out."""
    found = {}
    for name in names:
        try:
            found[name] = align(series, method(name).Options())
        except TiltAlignError as error:
            print(f"{name}: {error}")
    return found


if __name__ == "__main__":
    main()
