"""Part of the widget *Dataset*: where results go, and the button that saves them."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_tiltalign.errors import TiltAlignError
from napari_tiltalign.ui.hearing import hear
from napari_tiltalign.ui.preferences import preferences
from napari_tiltalign.ui.saving import proposed_folder, save
from napari_tiltalign.ui.session import Session


def save_asking(session: Session, parent: QWidget | None = None) -> bool:
    """Save to the folder chosen before, or ask for one; False if nothing was saved."""
    if session.results_folder is None:
        return save_elsewhere(session, parent)
    return save_to(session, session.results_folder)


def save_elsewhere(session: Session, parent: QWidget | None = None) -> bool:
    """Ask for a folder and save there; False if nothing was saved."""
    folder = ask_folder(session, parent)
    return folder is not None and save_to(session, folder)


def ask_folder(session: Session, parent: QWidget | None = None) -> Path | None:
    """Ask for the folder for results; None if the user does not want any."""
    if session.dataset is None:
        return None
    proposed = proposed_folder(session.dataset, preferences().folder_name)
    chosen, _ = QFileDialog.getSaveFileName(
        parent, "Folder for results (made if need be)", str(proposed), "", options=QFileDialog.Option.ShowDirsOnly
    )
    return Path(chosen) if chosen else None


def save_to(session: Session, folder: Path) -> bool:
    """Save to a folder; a problem is told, and False is returned."""
    try:
        losses = save(session, folder)
    except (TiltAlignError, OSError) as error:
        session.warned.emit(f"not saved: {error}")
        return False
    session.told.emit(f"saved {len(losses)} series in {folder}")
    return True


class SaveRow(QWidget):
    """Shows where results go, and saves them.

    Parameters
    ----------
    session
        What to save.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.folder = QLabel()
        self.folder.setMinimumWidth(40)
        self.save_button = QPushButton("Save")
        self.save_button.setToolTip("Write STAR files and everything else about all series that were worked on")
        self.save_as_button = QPushButton("Save in …")
        self.save_as_button.setToolTip("Choose the folder for results, and save")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Results"))
        layout.addWidget(self.folder, 1)
        layout.addWidget(self.save_button)
        layout.addWidget(self.save_as_button)
        self.save_button.clicked.connect(self._save)
        self.save_as_button.clicked.connect(self._save_as)
        hear(session.history_changed, self._update)
        hear(session.dataset_changed, self._update)
        self._update()

    def _save(self) -> None:
        save_asking(self._session, self)
        self._update()

    def _save_as(self) -> None:
        save_elsewhere(self._session, self)
        self._update()

    def _update(self) -> None:
        folder = self._session.results_folder
        self.folder.setText(folder.name if folder else "no folder chosen yet")
        self.folder.setToolTip(str(folder) if folder else "the first saving asks for one")
        self.save_button.setEnabled(bool(self._session.unsaved()))
        self.save_as_button.setEnabled(self._session.dataset is not None)
