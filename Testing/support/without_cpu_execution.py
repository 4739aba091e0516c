"""A pytest plugin (`-p Testing.support.without_cpu_execution`): the library as if `execution/cpu` had been deleted."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

FOLDER = "CTSAM3DLib.execution.cpu"


class Refusing(MetaPathFinder):
    """Finds nothing in the folder."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == FOLDER or name.startswith(f"{FOLDER}."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Refusing())
