"""Let read-only mappings travel between processes.

The standard library can neither pickle nor copy a `MappingProxyType`; a batch sends series and alignments to workers.
"""

from __future__ import annotations

import copyreg
from types import MappingProxyType
from typing import Any


def _rebuild(items: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(items)


def _reduce(mapping: MappingProxyType[Any, Any]) -> tuple[Any, tuple[dict[Any, Any]]]:
    return _rebuild, (dict(mapping),)


copyreg.pickle(MappingProxyType, _reduce)
