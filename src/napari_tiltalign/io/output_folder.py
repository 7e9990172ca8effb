"""Where everything lies in the output folder of an alignment, and whether it may be written to.

::

    DIR/aligned_tilt_series.star        global table, written last; series that failed are not in it
    DIR/failed_tilt_series.star         their rows, with the reason; absent if none failed
    DIR/tilt_series/NAME.star           one per series, without the images that took no part
    DIR/external/NAME/alignment.json    everything that is known, all images and tracks
    DIR/external/NAME/NAME.xf .tlt .xtilt .rawtlt .aln [.fid]
    DIR/external/NAME/state.json        what became of the series, with checksums
    DIR/external/NAME/curation.json     what a person decided in napari: exclusions, all candidates, locked beads
    DIR/external/NAME/journal.jsonl     steps since the last saving; there only while there are some
    DIR/run.json                        command, options, version, times
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import BadInput
from napari_tiltalign.io.files import safe_name
from napari_tiltalign.io.fingerprint import image_files
from napari_tiltalign.model import Dataset

IMOD_SUFFIXES = (".xf", ".tlt", ".xtilt", ".rawtlt")


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """An output folder, which need not exist yet.

    Attributes
    ----------
    root
        The folder itself.
    """

    root: Path

    @property
    def aligned_star(self) -> Path:
        """Global table of the series that were aligned."""
        return self.root / "aligned_tilt_series.star"

    @property
    def failed_star(self) -> Path:
        """Global table of the series that failed."""
        return self.root / "failed_tilt_series.star"

    @property
    def run_record(self) -> Path:
        """Record of the last run."""
        return self.root / "run.json"

    def series_star(self, name: str) -> Path:
        """STAR file of a series."""
        return self.root / "tilt_series" / f"{safe_name(name)}.star"

    def series_folder(self, name: str) -> Path:
        """Folder with everything else about a series."""
        return self.root / "external" / safe_name(name)

    def series_file(self, name: str, suffix: str) -> Path:
        """File in the series' folder that bears its name."""
        return self.series_folder(name) / f"{safe_name(name)}{suffix}"

    def alignment_record(self, name: str) -> Path:
        """Lossless record of the alignment of a series."""
        return self.series_folder(name) / "alignment.json"

    def state_file(self, name: str) -> Path:
        """What became of a series."""
        return self.series_folder(name) / "state.json"

    def curation_file(self, name: str) -> Path:
        """What a person decided about a series."""
        return self.series_folder(name) / "curation.json"

    def journal_file(self, name: str) -> Path:
        """Steps of a person's work on a series since it was saved."""
        return self.series_folder(name) / "journal.jsonl"

    def result_files(self, name: str) -> list[Path]:
        """Every file that the result of a series can have, but for its state."""
        named = [self.series_file(name, suffix) for suffix in (*IMOD_SUFFIXES, ".aln", ".fid")]
        return [self.series_star(name), self.alignment_record(name), *named]

    def has_results(self) -> bool:
        """Whether results lie in it, complete or not."""
        return any(self.root.glob("external/*/state.json"))

    def check_foreign_files(self, dataset: Dataset) -> None:
        """Make sure that writing the results of a dataset destroys nothing that this program has not written.

        Raises
        ------
        BadInput
            If a result would take the place of the input or of another program's file.
        """
        inputs = _real(Path(source) for source in (dataset.source, *(s.source for s in dataset)) if source)
        images_in = _real(file.parent for series in dataset for file in image_files(series))
        tables = (self.aligned_star, self.failed_star)
        for name in (*(series.name for series in dataset), *dataset.failed):
            ours = self.state_file(name).is_file()
            files = (self.series_star(name), *tables) if ours else (*self.result_files(name), *tables)
            for file in files:
                self._check(file, inputs, ours=ours or (file in tables and self.has_results()))
            if self.series_folder(name).resolve() in images_in:
                raise BadInput(f"the images of {name} lie in {self.series_folder(name)}, where its results would go; "
                               "choose another output folder")  # fmt: skip

    def _check(self, file: Path, inputs: set[Path], *, ours: bool) -> None:
        if file.resolve() in inputs:
            raise BadInput(f"the results would take the place of the input {file}; choose another output folder")
        if not ours and file.exists():
            raise BadInput(f"{file} was not written by this program and will not be replaced; choose another output "
                           f"folder than {self.root}, or move the file away")  # fmt: skip


def _real(paths: Iterable[Path]) -> set[Path]:
    return {path.resolve() for path in paths}
