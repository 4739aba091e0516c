"""The panel's section of models: what is on this computer, and how more come and go."""

from __future__ import annotations

import os

import ctk
import qt
from slicer.i18n import tr as _

from CTSAM3DLib.checkpoints.model_store import ModelStore, StoredModel
from CTSAM3DLib.errors import CTSAM3DError, ModelError
from CTSAM3DWidgets.BackgroundTask import BackgroundTask
from CTSAM3DWidgets.FormWidgets import busyRow, button, label, lineEdit, row, say, section

LIST_ROWS = 3
CARD_HEIGHT = 160
MEGABYTE = 1e6


class ModelsSection:
    """Lists models; imports, downloads and removes the user's own."""

    def __init__(self, parentLayout, store: ModelStore) -> None:
        self._store = store
        self._models: list[StoredModel] = []
        self._task: BackgroundTask[StoredModel] | None = None
        form = section("Models", _("Models on this computer"), parentLayout)
        self._addList(form)
        self._addForm(form)
        self.list.connect("currentRowChanged(int)", lambda index: self._showChosen())
        self.removeButton.connect("clicked()", self.onRemove)
        self.folderButton.connect("clicked()", self.onOpenFolder)
        self.importButton.connect("clicked()", self.onImport)
        self.downloadButton.connect("clicked()", self.onDownload)
        self.cancelButton.connect("clicked()", self.onCancel)
        self._showBusy(False)
        self.refresh()

    def refresh(self, chosen: str = "") -> None:
        """Show the models that there are now, and choose one by its name."""
        self._models = self._store.models()
        self.list.clear()
        for model in self._models:
            self.list.addItem(model.name)
        names = [model.name for model in self._models]
        self.list.setCurrentRow(names.index(chosen) if chosen in names else 0)

    def close(self) -> None:
        """Stop a download that runs; it can be gone on with."""
        if self._task is not None:
            self._task.cancel()

    def onRemove(self) -> None:
        """Delete the chosen model's files."""
        name = self._models[self.list.currentRow].name
        try:
            self._store.remove(name)
        except CTSAM3DError as error:
            say(self.statusLabel, str(error))
            return
        self.refresh()
        say(self.statusLabel, _("The model {name} is removed.").format(name=name))

    def onOpenFolder(self) -> None:
        """Show the folder of the user's models in the system's file browser."""
        self._store.folder.mkdir(parents=True, exist_ok=True)
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._store.folder)))

    def onImport(self) -> None:
        """Choose a file and copy it into the store."""
        path = qt.QFileDialog.getOpenFileName(
            self.list.window(), _("Import a model"), "", _("Weights (*.safetensors *.pth)")
        )
        if path:
            name = self.nameEdit.text.strip() or os.path.splitext(os.path.basename(path))[0]
            self._run(lambda window, report, cancel: self._store.import_file(path, name, window))

    def onDownload(self) -> None:
        """Fetch a file, check it, and put it into the store."""
        url, checksum = self.urlEdit.text.strip(), self.checksumEdit.text.strip()
        name = self.nameEdit.text.strip() or os.path.splitext(url.rpartition("/")[2])[0]

        def work(window, report, cancel):
            return self._store.download(
                url, checksum, name, window, progress=lambda done, total: report((done, total)), cancel=cancel
            )

        self._run(work)

    def onCancel(self) -> None:
        """Stop the download; what is there of it is kept for the next try."""
        self.close()
        self._showBusy(False)
        say(self.statusLabel, _("Cancelled. Download goes on from there."))

    def _run(self, work) -> None:
        try:
            window = self._window()
        except CTSAM3DError as error:
            say(self.statusLabel, str(error))
            return
        say(self.statusLabel, "")
        self._showBusy(True)
        self._task = BackgroundTask(
            lambda report, cancel: work(window, report, cancel), self._onDone, self._onFailed, self._onProgress
        )

    def _window(self) -> tuple[float, float] | None:
        text = self.windowEdit.text.strip()
        if not text:
            return None
        try:
            low, high = (float(number) for number in text.split())
        except ValueError as error:
            raise ModelError(_("The HU window is two numbers, the lower first, such as -500 800.")) from error
        return low, high

    def _onDone(self, model: StoredModel) -> None:
        self._showBusy(False)
        self.refresh(model.name)
        say(self.statusLabel, _("The model {name} is ready.").format(name=model.name))

    def _onFailed(self, error: CTSAM3DError) -> None:
        self._showBusy(False)
        say(self.statusLabel, str(error))

    def _onProgress(self, progress: tuple[int, int | None]) -> None:
        done, total = progress
        self.progressBar.setRange(0, 100 if total else 0)
        self.progressBar.setValue(int(100 * done / total) if total else 0)
        say(self.statusLabel, _("{done:.1f} MB so far").format(done=done / MEGABYTE))

    def _showBusy(self, busy: bool) -> None:
        self.progressBar.setRange(0, 0)
        self.busyWidget.visible = busy
        for widget in (self.importButton, self.downloadButton, self.removeButton):
            widget.enabled = not busy
        if not busy:
            self._showChosen()

    def _showChosen(self) -> None:
        index = self.list.currentRow
        model = self._models[index] if 0 <= index < len(self._models) else None
        self.removeButton.enabled = model is not None and not model.bundled
        if model is None:
            self.aboutLabel.setText("")
            return
        self.aboutLabel.setText(
            _("{origin}, {size:.1f} MB, HU window {low:g} to {high:g}. Licence: {licence}").format(
                origin=_("Comes with CT-SAM3D") if model.bundled else _("Yours"),
                size=model.size / MEGABYTE,
                low=model.window[0],
                high=model.window[1],
                licence=model.licence or _("unknown"),
            )
        )
        self.card.setMarkdown(model.card or _("This model brings no card."))

    def _addList(self, form) -> None:
        self.list = qt.QListWidget()
        self.list.objectName = "CTSAM3DModelList"
        self.list.setToolTip(_("The models that the effect offers on this computer."))
        self.list.setFixedHeight((LIST_ROWS + 1) * self.list.fontMetrics().height())
        form.addRow(self.list)
        self.aboutLabel = label("ModelAbout")
        form.addRow(self.aboutLabel)
        cardBox = ctk.ctkCollapsibleGroupBox()
        cardBox.objectName = "CTSAM3DModelCardBox"
        cardBox.title = _("Model card")
        self.card = qt.QTextBrowser()
        self.card.objectName = "CTSAM3DModelCard"
        self.card.setMinimumHeight(CARD_HEIGHT)
        self.card.openExternalLinks = True
        cardLayout = qt.QVBoxLayout(cardBox)
        cardLayout.addWidget(self.card)
        cardBox.collapsed = True
        form.addRow(cardBox)
        self.removeButton = button("RemoveModel", _("Remove"), _("Delete the files of this model of yours."))
        self.folderButton = button("ModelFolder", _("Open folder"), str(self._store.folder))
        form.addRow(row(self.removeButton, self.folderButton))
        self.folderLabel = label("ModelFolderPath", _("Your models lie in {folder}").format(folder=self._store.folder))
        form.addRow(self.folderLabel)

    def _addForm(self, form) -> None:
        self.nameEdit = lineEdit("ModelName", _("the file's name"), _("What the new model is to be called."))
        form.addRow(_("New model:"), self.nameEdit)
        self.windowEdit = lineEdit(
            "ModelWindow",
            _("only without config.py: -500 800"),
            _("HU that become 0 and 1; for a published params.pth that has no config.py beside it."),
        )
        form.addRow(_("HU window:"), self.windowEdit)
        self.urlEdit = lineEdit("ModelUrl", "https://…", _("Where to download the weights from. Nothing is preset."))
        form.addRow(_("Address:"), self.urlEdit)
        self.checksumEdit = lineEdit(
            "ModelChecksum", _("64 hexadecimal digits"), _("The SHA-256 that whoever offers the file has published.")
        )
        form.addRow(_("SHA-256:"), self.checksumEdit)
        self.importButton = button(
            "ImportModel", _("Import file…"), _("Copy weights on this computer: our .safetensors or a params.pth.")
        )
        self.downloadButton = button("DownloadModel", _("Download"), _("Fetch the address, and check the SHA-256."))
        form.addRow("", row(self.importButton, self.downloadButton))
        self.busyWidget, self.progressBar, self.cancelButton = busyRow(
            "Model", _("Stop; the next download goes on from there.")
        )
        form.addRow(self.busyWidget)
        self.statusLabel = label("ModelStatus")
        form.addRow(self.statusLabel)
        say(self.statusLabel, "")
