"""``align INPUT --use-best COMPARED``: align by the method that was the best one when methods were compared."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_tiltalign.errors import BadInput
from napari_tiltalign.methods.base import MethodOptions, method, methods


def best_method(compared: Path) -> tuple[MethodOptions, str]:
    """Return the options of the method that ``compare`` found best in most series, and the reason in words.

    Of methods that were the best equally often, the one that was met first. Alignments that ``compare`` was only given
    (``--also``) do not count: nothing tells how to make them.

    Parameters
    ----------
    compared
        Folder that ``compare`` has written.

    Raises
    ------
    BadInput
        If it is no such folder, or no method that was run is the best of any series.
    """
    record = compared / "comparison.json"
    best = Counter(one["best"] for one in _read(record, list) if one.get("best"))
    ran = {name: times for name, times in best.items() if (compared / name / "run.json").is_file()}
    if not ran:
        others = f" (the best were {', '.join(best)}, which were given with --also)" if best else ""
        raise BadInput(
            f"{record}: no method that was run is the best of any series{others}; compare more methods, or name one: "
            "align METHOD INPUT --output DIR"
        )
    name = max(ran, key=lambda one: ran[one])
    where = compared / name / "run.json"
    if name not in methods():
        raise BadInput(f"{where}: there is no method {name} any more; compare again")
    try:
        options = method(name).Options(**_read(where, dict).get("options", {}))
    except ValidationError as error:
        raise BadInput(f"{where}: its options are not those of this version; compare again") from error
    return options, f"{name} is the best of {ran[name]} of {sum(best.values())} series in {record}"


def _read(path: Path, kind: type) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}); give the folder that compare has written (--output)"
        ) from error
    if not isinstance(found, kind):
        raise BadInput(f"{path} is not what compare writes; give the folder that it has written (--output)")
    return found
