"""What a worker of a Dask cluster does with a job."""

from __future__ import annotations

import os
import signal
import time

from distributed import get_worker

from napari_tiltalign.batch.job import SeriesJob, do_series
from napari_tiltalign.batch.outcome import SeriesOutcome

_TELL_EVERY_S = 0.5
_ON_ITS_WAY_S = 0.05
"""Messages leave a worker within milliseconds; this one must be out before a series can end the process."""


def work(job: SeriesJob, key: str, topic: str, folder: str) -> SeriesOutcome:
    """Do a job, and tell the run how far it is.

    Parameters
    ----------
    job
        What to do.
    key
        Names the attempt in what is told.
    topic
        Where the run listens.
    folder
        Folder that names of files are relative to; empty if that is the worker's own already.
    """
    if folder:
        os.chdir(folder)
    worker = get_worker()
    told = -_TELL_EVERY_S

    def tell(fraction: float, message: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_EVERY_S:
            told = time.monotonic()
            event = {"key": key, "worker": worker.address, "fraction": float(fraction), "message": message}
            worker.log_event(topic, event)

    tell(0.0, "begins")
    time.sleep(_ON_ITS_WAY_S)
    return do_series(job, tell)


async def end_process() -> None:
    """End the worker's process at once, with whatever it hangs in; a coroutine, because nobody waits for its end."""
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
