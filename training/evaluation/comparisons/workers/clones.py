"""Import modules from a user's clone of a repository that is no package."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .serve import Refusal, Settings


def module_of(settings: Settings, name: str, folder: str = "") -> ModuleType:
    """A module of the clone, or of a folder in it, found before any package of the same name.

    Raises Refusal where there is no clone, or where it lacks the module or a package that it needs.
    """
    if settings.clone is None:
        raise Refusal("it is no package; clone its repository and give the folder by --clone.")
    root = Path(settings.clone, folder)
    if not root.is_dir():
        raise Refusal(f"{root} is not a folder; give the folder of its repository by --clone.")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return import_module(name)
    except ImportError as error:
        raise Refusal(
            f"{root} cannot be used ({error}); give the folder of its repository by --clone, and install what it needs."
        ) from error
