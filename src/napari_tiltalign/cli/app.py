"""The program: its commands, and what its exit code says."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter

from napari_tiltalign.cli.exit_codes import EXPECTED, ExitCode, exit_code_of

HELP = """Align tilt series of cryo-electron tomography.

First steps: "demo" shows that everything works, on simulated data. Then, with data of your own: check INPUT,
align METHOD INPUT --output DIR, judge INPUT DIR. Every command has --help.

Exit codes: 0 all good, 1 wrong usage, 2 some series failed, 3 all failed, 4 stopped, 5 environment (disk, permissions,
missing program).
"""

_COMMANDS = {
    "check": ("check", "Look for what is wrong with tilt series, before aligning."),
    "judge": ("judge", "Score an alignment that is there: how good is it, and why."),
    "compare": ("compare", "Run several methods and pick the best for each series."),
    "preview": ("preview", "Reconstruct a small tomogram of each series, to look at."),
    "report": ("report", "Write one page about a folder of results, with pictures."),
    "convert": ("convert", "Convert an alignment to another format."),
    "simulate": ("simulation", "Simulate tilt series with known truth, as a RELION project."),
    "relion": ("relion", "Do RELION's own job of aligning, called as RELION calls it."),
    "doctor": ("doctor", "Say what this machine has, and what to do about the rest."),
    "demo": ("simulation", "Simulate, align, and say how far from the truth it is."),
}
"""Commands that are imported when they are called: where they are, and what they do on one line of 80 columns."""

_RELION_PROGRAMS = ("relion_align_tiltseries", "relion_align_tiltseries_mpi")
"""Called by one of these names, through a link, this is RELION's program."""

_ALIGN = """Align tilt series: align METHOD INPUT --output DIR.

Or by the method that compare has found best: align INPUT --use-best COMPARED --output DIR.
"""
_WATCH = "Align series as they arrive: watch METHOD DIR --output DIR."

_DEBUG = Parameter(
    negative="", show_default=False, help="Show where an error arose.", group=Group("Program", sort_key=20)
)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    tokens
        Its arguments; those of the process if None.

    Returns
    -------
    int
        The exit code; see `ExitCode`.
    """
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if tokens is None and Path(sys.argv[0]).name in _RELION_PROGRAMS:
        arguments.insert(0, "relion")
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    try:
        with _stopped_by_sigterm():
            return int(build_app(arguments).meta(arguments) or ExitCode.GOOD)
    except EXPECTED as error:  # before a command was reached
        return _tell(error)


def build_app(arguments: Sequence[str]) -> App:
    """Build the program. The methods are looked up, which imports them, only for the command that needs them."""
    app = App(
        name="napari-tiltalign",
        help=HELP,
        version=lambda: version("napari-tiltalign"),
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, text in (("align", _ALIGN), ("watch", _WATCH)):
        command = App(name=name, help=text)
        app.command(command)
        if name in arguments:
            add_methods = import_module(f"napari_tiltalign.cli.{name}").add_methods
            add_methods(command, arguments[arguments.index(name) + 1 :])
    for name, (where, text) in _COMMANDS.items():
        # its own help tells more, and comes from its docstring
        app.command(f"napari_tiltalign.cli.{where}:{name}", name=name, help=None if name in arguments else text)

    app.meta.suppress_keyboard_interrupt = False

    @app.meta.default
    def run(
        *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        debug: Annotated[bool, _DEBUG] = False,
    ) -> int:
        try:
            return int(app(arguments) or ExitCode.GOOD)
        except EXPECTED as error:
            if isinstance(error, CycloptsError) and "relion" in arguments[:1]:
                from napari_tiltalign.cli.relion_flags import tell_relion_of_wrong_usage

                tell_relion_of_wrong_usage(arguments)
            return _tell(error, debug=debug)
        except Exception:  # a bug: nothing must be hidden
            traceback.print_exc()
            print("This is an error of the program. Please report it with the lines above.", file=sys.stderr)
            return ExitCode.ALL_FAILED

    return app


def _tell(error: BaseException, *, debug: bool = False) -> ExitCode:
    """Print an error for the user and return the exit code."""
    from napari_tiltalign.cli.messages import message_of

    if debug:
        traceback.print_exception(error)
    print(message_of(error), file=sys.stderr)
    return exit_code_of(error)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM (a scheduler's time limit) stop the program like Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
