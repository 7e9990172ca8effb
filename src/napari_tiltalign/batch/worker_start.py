"""Loaded by Dask in every worker process of this machine before it begins: how it lives and dies with the run.

A terminal sends Ctrl-C to the workers too, but whoever started them tells them to stop, so they do not listen to it.
And a run that is killed takes its workers along: on Linux the kernel sees to it, elsewhere Dask does once it notices.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

signal.signal(signal.SIGINT, signal.SIG_IGN)
if sys.platform == "linux":
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died just before
        os._exit(1)
