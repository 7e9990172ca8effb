"""Simulated series shared by the tests of methods, and quiet linear algebra."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from napari_tiltalign.images.compute import single_threaded_algebra


@pytest.fixture(autouse=True, scope="session")
def _calm_algebra() -> Iterator[None]:
    """Keep algebra on one thread, as the methods do: its own threads only cost time with matrices this small."""
    with single_threaded_algebra():
        yield
