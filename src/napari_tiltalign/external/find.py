"""Where other people's programs are, and what to say if they are not there.

A path is taken from an option, the environment or ``PATH``, and never from a file of a project: such files come from
others.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from napari_tiltalign.errors import ProgramMissing


@dataclass(frozen=True, slots=True)
class Program:
    """A program that may be installed.

    Attributes
    ----------
    title
        What people call it.
    names
        Names of its executable, the best first.
    variable
        Environment variable that may hold its path, as for RELION; empty if there is none.
    home_variable
        Environment variable that may hold the folder in whose ``bin`` it is; empty if there is none.
    option
        The option that may hold its path, as on the command line.
    how_to_install
        What to do if it is missing, one sentence.
    """

    title: str
    names: tuple[str, ...]
    variable: str
    home_variable: str
    option: str
    how_to_install: str

    def find(self, given: str = "") -> Path:
        """Return the path of the executable.

        Parameters
        ----------
        given
            A path, or a name to look for on ``PATH``; if it is not empty, nothing else is tried.

        Raises
        ------
        ProgramMissing
            If it is nowhere. The message says where it was looked for and how to install it.
        """
        looked: list[str] = []
        if given:
            return self._must_exist(given, f"{self.option} {given}")
        if path := os.environ.get(self.variable, "") if self.variable else "":
            return self._must_exist(path, f"{self.variable}={path}")
        if self.variable:
            looked.append(f"{self.variable} (not set)")
        for name in self.names:
            if found := shutil.which(name):
                return Path(found).absolute()
        looked.append(f"{' or '.join(self.names)} on PATH")
        if self.home_variable:
            home = os.environ.get(self.home_variable, "")
            looked.append(f"{self.home_variable}/bin" if home else f"{self.home_variable} (not set)")
            for name in self.names if home else ():
                if found := shutil.which(name, path=str(Path(home) / "bin")):
                    return Path(found).absolute()
        raise ProgramMissing(
            f"{self.title} was not found; looked for it in {', '.join(looked)}. {self.how_to_install}, or give its "
            f"path ({self.option}{f' or {self.variable}' if self.variable else ''})"
        )

    def _must_exist(self, given: str, where: str) -> Path:
        if found := shutil.which(given):
            return Path(found).absolute()
        problem = "is not executable" if Path(given).exists() else "does not exist"
        raise ProgramMissing(f"{self.title}: {where} {problem}. {self.how_to_install}, or correct the path")

    def missing(self) -> str:
        """Say why the program cannot be used without an option; empty if it can."""
        try:
            self.find()
        except ProgramMissing as error:
            return str(error)
        return ""
