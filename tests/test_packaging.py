"""What is installed: the built wheel and the editable checkout both bring the napari manifest."""

from __future__ import annotations

import email
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel built from the source distribution, so that a file missing from that shows."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"napari_tiltalign"}
    assert {f"napari_tiltalign/{name}" for name in ("__init__.py", "py.typed", "napari.yaml")} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_installed_wheel_brings_the_manifest(wheel: Path, tmp_path: Path) -> None:
    # an unpacked wheel is what an installer leaves in site-packages; the path makes it win over the checkout
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import napari_tiltalign; from npe2 import PluginManifest;"
        "print(napari_tiltalign.__file__);"
        "print(PluginManifest.from_distribution('napari-tiltalign').contributions.json())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    location, contributions = done.stdout.splitlines()
    assert Path(location).is_relative_to(tmp_path)
    assert contributions == PluginManifest.from_file(ROOT / "napari.yaml").contributions.json()


def test_editable_install_brings_the_manifest() -> None:
    manifest = PluginManifest.from_distribution("napari-tiltalign")
    assert manifest.contributions == PluginManifest.from_file(ROOT / "napari.yaml").contributions


@pytest.mark.gui
def test_everything_the_manifest_names_exists() -> None:
    PluginManifest.from_file(ROOT / "napari.yaml").validate_imports()


def test_metadata_says_what_pyproject_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        path = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(path))
    assert metadata["Version"] == PROJECT["project"]["version"]
    assert metadata["Requires-Python"] == PROJECT["project"]["requires-python"]
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "BSD-3-Clause"


def test_lock_is_in_step_with_pyproject() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    package = next(item for item in lock["package"] if item["name"] == "napari-tiltalign")
    locked = package["metadata"]["requires-dist"]
    assert {as_text(item) for item in locked if "extra" not in item.get("marker", "")} == {
        requirement.replace(" ", "").lower() for requirement in PROJECT["project"]["dependencies"]
    }
    groups = package["metadata"]["requires-dev"]
    for group in ("test", "lint", "bench"):
        assert {as_text(item) for item in groups[group]} == set(PROJECT["dependency-groups"][group])


def as_text(requirement: dict[str, str]) -> str:
    return requirement["name"] + requirement.get("specifier", "")
