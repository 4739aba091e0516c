"""The models on this computer: the bundled models, and models that the user has imported or downloaded.

Each of the user's models has a folder whose name is the model's name. Listing reads the folders alone: it needs neither
torch nor a network, and there is no index that could be wrong.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from CTSAM3DLib.atomic import describe_os_error
from CTSAM3DLib.cancel import CancelEvent
from CTSAM3DLib.checkpoints.bundled import bundled_models
from CTSAM3DLib.checkpoints.download import Progress, checksum, download
from CTSAM3DLib.checkpoints.released_config import read_window
from CTSAM3DLib.errors import ModelError

FOLDER_VARIABLE = "CTSAM3D_MODELS_FOLDER"
"""Environment variable that names another folder for the user's models."""

OURS, PUBLISHED = "model.safetensors", "params.pth"
CONFIG = "config.py"
_DOWNLOADS = ".downloads"
_MAX_HEADER = 100 * 2**20  # as in the safetensors format


@dataclass(frozen=True)
class StoredModel:
    """A model in the store."""

    name: str
    path: Path
    """File of the weights."""
    bundled: bool
    window: tuple[float, float]
    """HU. Values that are scaled to 0 and 1."""
    licence: str = ""
    card: str = ""
    """The model card, Markdown; empty for the published weights, which have none."""

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return self.path.stat().st_size


class ModelStore:
    """The bundled models and the user's models in a folder.

    The folder is `folder`, or that in the environment variable CTSAM3D_MODELS_FOLDER, or `ctsam3d/models` in the
    system's folder for user data. It is created with the first model.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder or os.environ.get(FOLDER_VARIABLE) or _user_data() / "ctsam3d" / "models")

    def models(self) -> list[StoredModel]:
        """All models: the bundled models first, then the user's by name. Damaged models are left out."""
        found = []
        for name in self._files():
            with contextlib.suppress(ModelError):  # `find` reports what is wrong with a damaged model
                found.append(self.find(name))
        return found

    def find(self, name: str) -> StoredModel:
        """The model of this name. Raises ModelError."""
        files, bundled = self._files(), name in bundled_models()
        if name not in files:
            raise ModelError(f"There is no model called '{name}'; import it, or choose one of: {', '.join(files)}.")
        path = files[name]
        if path.name != PUBLISHED:
            return _described(name, path, bundled)
        return StoredModel(name, path, bundled, read_window(path.with_name(CONFIG)))

    def import_file(
        self, path: str | os.PathLike[str], name: str, window: tuple[float, float] | None = None
    ) -> StoredModel:
        """Copy a file of weights into the store: our safetensors, or the published `params.pth`.

        The published weights need their `config.py` in the same folder, or the HU `window`. Raises ModelError.
        """
        path = Path(path)
        self._check_new(name)
        if not path.is_file():
            raise ModelError(f"There is no model file {path}; check the path.")
        published = zipfile.is_zipfile(path)  # a checkpoint of torch is one
        config = ""
        if published:
            config = _config_text(read_window(path.with_name(CONFIG)) if window is None else window)
        else:
            _described(name, path, bundled=False)
        try:
            with self._filling(name) as folder:
                shutil.copyfile(path, folder / (PUBLISHED if published else OURS))
                if published:
                    (folder / CONFIG).write_text(config, encoding="utf-8")
        except OSError as error:
            raise ModelError(f"{path} cannot be copied to {self.folder}: {describe_os_error(error)}.") from error
        return self.find(name)

    def download(
        self,
        url: str,
        sha256: str,
        name: str,
        window: tuple[float, float] | None = None,
        progress: Progress | None = None,
        cancel: CancelEvent | None = None,
    ) -> StoredModel:
        """Download a file of weights, check its SHA-256 and import it; interrupted downloads are resumed.

        Published weights need their HU `window`. Raises ModelError, and Cancelled; the same call then resumes.
        """
        self._check_new(name)
        part = self.folder / _DOWNLOADS / checksum(sha256)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"The folder {part.parent} cannot be made: {describe_os_error(error)}.") from error
        download(url, sha256, part, progress, cancel)
        model = self.import_file(part, name, window)
        part.unlink(missing_ok=True)
        return model

    def remove(self, name: str) -> None:
        """Delete one of the user's models. Raises ModelError for a bundled or an unknown model."""
        model = self.find(name)
        if model.bundled:
            raise ModelError(f"The model '{name}' comes with CT-SAM3D and cannot be removed.")
        try:
            shutil.rmtree(model.path.parent)
        except OSError as error:
            raise ModelError(f"The model '{name}' cannot be removed: {describe_os_error(error)}.") from error

    def _files(self) -> dict[str, Path]:
        """The weight files of all models by name, the bundled models first."""
        files = bundled_models()
        for folder in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            for weights in (folder / OURS, folder / PUBLISHED):
                if weights.is_file() and not folder.name.startswith("."):
                    files.setdefault(folder.name, weights)
        return files

    @contextmanager
    def _filling(self, name: str) -> Iterator[Path]:
        """Yield a temporary folder, which becomes the model's folder when the block succeeds."""
        folder = self.folder / f".importing-{os.getpid()}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
            folder.rename(self.folder / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _check_new(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._ -]{0,62}[A-Za-z0-9_-])?", name):
            raise ModelError(f"'{name}' cannot name a model; use up to 64 letters, digits, spaces, dots and hyphens.")
        if name.lower() in (other.lower() for other in self._files()):
            raise ModelError(f"There is already a model called '{name}'; choose another name or remove that one first.")


def _described(name: str, path: Path, bundled: bool) -> StoredModel:
    """A model in our safetensors, from the file's metadata. Raises ModelError."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER:
                raise ValueError(length)
            metadata = json.loads(file.read(length))["__metadata__"]
        fields = json.loads(metadata["info"])
        low, high = fields["window"]
        return StoredModel(
            name, path, bundled, (float(low), float(high)), str(fields.get("licence", "")), str(fields.get("card", ""))
        )
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"{path} is no model of CT-SAM3D; give a .safetensors file of ours or the published params.pth."
        ) from error


def _config_text(window: tuple[float, float]) -> str:
    low, high = window
    if not -math.inf < low < high < math.inf:
        raise ModelError(f"The HU window {low:g} to {high:g} is none; give two numbers, the lower first.")
    return f"min_value = {low!r}\nmax_value = {high!r}\n"


def _user_data() -> Path:
    """The system's folder for user data; written here because Slicer's Python has no platformdirs."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
