"""How modules come into being as in Slicer: files by their path, and submodules of `slicer` once they are imported."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Mapping
from pathlib import Path


def load_file(name: str, path: Path) -> types.ModuleType:
    """Run a file as the module of that name, which imports find from then on."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class SubmoduleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives these modules to whoever imports them by name; Python then makes them attributes of their package."""

    def __init__(self, modules: Mapping[str, types.ModuleType]) -> None:
        self.modules = modules

    def find_spec(self, fullname, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in self.modules else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return self.modules[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        """It is complete already."""
