"""Every command that a page shows does what the page says, one after the other, on a small simulated series."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from napari_tiltalign import difference, read, read_alignment, write, write_alignment
from napari_tiltalign.cli import main
from napari_tiltalign.demo import write_simulated_project
from napari_tiltalign.io.imod import write_imod
from napari_tiltalign.simulation import Simulation

ROOT = Path(__file__).parents[1]
SMALL = Simulation(
    name="TS_01", image_rows_px=192, image_columns_px=192, tilt_step_deg=10.0, n_beads=12, thickness_nm=60, seed=101
)
NOT_HERE = ("demo", "simulate", "slurm", "patch-tracking", "compare", "/data/")
"""What is tried elsewhere (demo, simulate, compare), needs a cluster, or would take too long here."""
MADE = {
    "README.md": ["TS_01.aln", "seen/TS_01.mrc", "AlignTiltSeries/job007/report.html"],
    "docs/batch.md": ["AlignTiltSeries/job007/run.json", "AlignTiltSeries/live/aligned_tilt_series.star"],
    "docs/recipes.md": ["AlignTiltSeries/job006/aligned_tilt_series.star", "OUT/external/TS_01/TS_01.xf", "TS_01.star",
                        "warp_tiltseries/TS_01.xml"],
    "docs/judging.md": ["seen/TS_01.mrc", "AlignTiltSeries/job007/report.html", "AlignTiltSeries/job007/scores.csv"],
    "docs/external-programs.md": ["TS_01_new.xf", "OUT/external/TS_01/alignment.json", "warp_tiltseries/TS_01.xml"],
}  # fmt: skip
"""Files that the commands of a page must have made."""


def commands_of(page: str) -> list[list[str]]:
    """Words of every command that can be tried here, in order."""
    lines = re.findall(r"^    napari-tiltalign (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    commands = [shlex.split(line.split("#")[0]) for line in lines]
    programs = ("aretomo", "imod-fiducial", "imod-patch-tracking")
    return [
        words
        for words, line in zip(commands, lines, strict=True)
        if not any(word in line.lower() for word in NOT_HERE) and not set(programs) & set(words)
    ]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and what the pages suppose to be there: a job, files of AreTomo and IMOD, etomo's folder, Warp's."""
    folder = tmp_path_factory.mktemp("documented") / "project"
    star, _ = write_simulated_project(folder, [SMALL])
    dataset = read(star)
    series = dataset["TS_01"]
    truth = read_alignment(folder / "truth/TS_01.json", series)
    write(dataset, {"TS_01": truth}, folder / "AlignTiltSeries/job005")
    (folder / "others").mkdir()
    for suffix in (".aln", ".xf"):
        write_alignment(folder / f"others/TS_01{suffix}", truth, series)
    etomo = folder / "etomo"
    etomo.mkdir()
    with mrcfile.new(etomo / "TS_01.st") as file:
        file.set_data(np.stack([tilt.image.read() for tilt in series.tilts]).astype(np.float32))
        file.voxel_size = series.pixel_size_angst
    (etomo / "TS_01.rawtlt").write_text("".join(f"{tilt:.2f}\n" for tilt in series.nominal_tilt_deg))
    write_imod(etomo / "TS_01.xf", truth, series.nominal_tilt_deg)
    axis, pixel_nm = series.nominal_axis_deg, series.pixel_size_angst / 10
    settings = {"Setup.DatasetName": "TS_01", "Setup.PixelSize": pixel_nm, "Setup.ImageRotationA": axis}
    (etomo / "TS_01.edf").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (folder / "warp_tiltseries").mkdir()
    write_alignment(folder / "warp_tiltseries/TS_01.xml", truth, series)
    (folder / "MotionCorr/job002").mkdir(parents=True)
    shutil.copy(star, folder / "MotionCorr/job002/corrected_tilt_series.star")
    return folder


_FILES_BESIDE = {"docs/judging.md": ("*.aln", "*.xf", "*.tlt"), "docs/recipes.md": ("*.xf", "*.tlt")}
_WITH_RESULTS = ("docs/recipes.md", "docs/judging.md", "docs/external-programs.md")


@pytest.fixture
def here(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Function that makes a copy of all that the current folder; commands that need etomo's have its files there."""
    copy = Path(shutil.copytree(start, tmp_path / "project"))
    monkeypatch.chdir(copy)

    def prepare(page: str) -> None:
        for pattern in _FILES_BESIDE.get(page, ()):
            for file in (copy / "others").glob(pattern):
                shutil.copy(file, copy)
        for file in (copy / "etomo").iterdir() if "TS_01.edf" in (ROOT / page).read_text(encoding="utf-8") else ():
            shutil.copy(file, copy)
        if page in _WITH_RESULTS:
            main(["align", "fiducial", "tilt_series.star", "-o", "AlignTiltSeries/job007"])

    return prepare


@pytest.mark.parametrize("page", MADE)
def test_commands_of_a_page_in_their_order(
    here: Callable[[str], None], page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here(page)
    commands = commands_of(page)
    assert len(commands) >= 4
    for words in commands:
        if words[0] == "watch":
            words += ["--settle-minutes", "0", "--poll-seconds", "0.1", "--end-after-minutes", "0.01"]
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        assert code == 0, f"{' '.join(words)}\n{said.out}{said.err}"
    assert not [name for name in MADE[page] if not Path(name).is_file()]
    for record in Path().glob("AlignTiltSeries/*/external/TS_01/alignment.json"):
        found = read_alignment(record, read("tilt_series.star")["TS_01"])
        truth = read_alignment("truth/TS_01.json")
        assert difference(found, truth, thickness_angst=SMALL.thickness_angst).rms_px < 0.1


def test_nothing_that_could_be_tried_is_left_out() -> None:
    pages = [file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").glob("*.md")]
    tried_elsewhere = {"docs/tutorial.md"}  # test_documentation
    assert {page for page in pages if commands_of(page)} <= {*MADE, "docs/index.md", *tried_elsewhere}
