"""``run.json``: what was asked for, with what, when, and what came of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from napari_tiltalign.api import method_of
from napari_tiltalign.batch.outcome import SeriesOutcome
from napari_tiltalign.batch.plan import Request
from napari_tiltalign.errors import Cancelled
from napari_tiltalign.io.files import write_atomic


class RunRecord:
    """The record of one run.

    Parameters
    ----------
    request
        What is asked for.
    command
        The command that asked for it.
    """

    def __init__(self, request: Request, command: tuple[str, ...]) -> None:
        self.path = request.folder.run_record
        self.began = datetime.now(UTC)
        overrides = {name: options.model_dump(mode="json") for name, options in request.overrides.items()}
        self.facts: Mapping[str, Any] = {
            "command": command,
            "input": request.dataset.source,
            "method": method_of(request.options).name,
            "options": request.options.model_dump(mode="json"),
            **({"overrides": overrides} if overrides else {}),
            **({} if request.start is None else {"start": str(request.start)}),
            "placement": asdict(request.placement),
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("napari-tiltalign", "numpy", "scipy", "numba")},
            },
        }

    def write(self, status: str, outcomes: Iterable[SeriesOutcome]) -> None:
        """Write how the run stands."""
        ended = datetime.now(UTC)
        record = {
            **self.facts,
            "status": status,
            "began": self.began.isoformat(timespec="seconds"),
            "ended": ended.isoformat(timespec="seconds"),
            "seconds": round((ended - self.began).total_seconds(), 1),
            "series": {outcome.name: _as_recorded(outcome) for outcome in outcomes},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def write_end(self, error: BaseException, outcomes: Iterable[SeriesOutcome]) -> None:
        """Write why the run ended early, if the disk takes it."""
        stopped = isinstance(error, (Cancelled, KeyboardInterrupt))
        with suppress(OSError):
            self.write("stopped" if stopped else f"broken off: {error}", outcomes)


def _as_recorded(outcome: SeriesOutcome) -> dict[str, Any]:
    if outcome.failure:
        return {"result": "failed", "reason": outcome.failure, "seconds": round(outcome.seconds, 1)}
    lost = {suffix: [str(loss) for loss in losses] for suffix, losses in outcome.losses.items()}
    result = "kept" if outcome.kept else "aligned"
    return {"result": result, "seconds": round(outcome.seconds, 3), "not_in_file": lost}
