"""What is installed: the built wheel and the editable checkout both bring the napari manifest."""

from __future__ import annotations

import email
import importlib
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
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
    assert "warn" not in (done.stdout + done.stderr).lower()
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(wheel: Path) -> Path:
    """Source distribution that the wheel was built from."""
    return next(wheel.parent.glob("*.tar.gz"))


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"napari_tiltalign"}
    package = {name for name in names if name.startswith("napari_tiltalign/")}
    files = (path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert package == {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert {f"napari_tiltalign/{name}" for name in ("py.typed", "napari.yaml", "icon.png")} <= package
    assert any(name.endswith("licenses/LICENSE") for name in names - package)


def test_sdist_holds_what_a_packager_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    project = {"pyproject.toml", "napari.yaml", "mkdocs.yml", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md"}
    assert project <= names
    assert {"scripts/test", "tests/conftest.py", "docs/index.md", "docs/site/hook.py", "examples/README.md"} <= names
    unwanted = ("__pycache__", ".pyc", ".venv", "uv.lock", ".ipynb", "site/search")
    assert not [name for name in names if any(part in name for part in unwanted)]


def test_the_description_has_no_link_that_leads_nowhere(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        facts = email.message_from_bytes(archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))))
    text = str(facts.get_payload())
    assert facts["Description-Content-Type"] == "text/markdown"
    assert text.startswith("# napari-tiltalign")
    assert "coloured by their residual" not in text or "real_curate_beads.png" in text  # no caption without its picture
    assert all(link.startswith(("https://", "#")) for link in re.findall(r"\]\(([^)]*)\)", text))


def test_with_an_address_links_become_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    hook = importlib.import_module("hatch_build")
    text = "![Beads](docs/a.png)\n\n*A caption.*\n\n[on](docs/b.md), [off](https://napari.org), [here](#top)\n"
    assert hook.readme_for_elsewhere(text, "https://host/us/it/") == (
        "![Beads](https://host/us/it/raw/HEAD/docs/a.png)\n\n*A caption.*\n\n"
        "[on](https://host/us/it/blob/HEAD/docs/b.md), [off](https://napari.org), [here](#top)\n"
    )
    assert hook.readme_for_elsewhere(text, "") == "\n\non, [off](https://napari.org), [here](#top)\n".removeprefix("\n")


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_plugin_is_shown_by_the_hub_and_the_installer(wheel: Path) -> None:
    manifest = PluginManifest.from_file(ROOT / "napari.yaml")
    assert manifest.display_name == "Tilt-series alignment"
    assert manifest.categories
    assert manifest.visibility == "public"
    package, _, icon = str(manifest.icon).partition(":")
    with zipfile.ZipFile(wheel) as archive:
        header = archive.read(f"{package}/{icon}")[:24]
    width, height = struct.unpack(">II", header[16:24])
    assert header.startswith(b"\x89PNG")
    assert width == height >= 128


def test_installed_wheel_brings_the_manifest(wheel: Path, tmp_path: Path) -> None:
    # an unpacked wheel is what an installer leaves in site-packages; the path makes it win over the checkout
    shutil.unpack_archive(wheel, tmp_path, format="zip")
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
    for group in ("test", "lint", "bench", "docs"):
        assert {as_text(item) for item in groups[group]} == set(PROJECT["dependency-groups"][group])


def as_text(requirement: dict[str, Any]) -> str:
    extras = f"[{','.join(requirement['extras'])}]" if "extras" in requirement else ""
    return requirement["name"] + extras + requirement.get("specifier", "")
