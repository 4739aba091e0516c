"""Python files become modules as in Slicer: by their path, under a name that Slicer gives."""

import importlib.util
import sys
import types
from pathlib import Path


def load_file(name: str, path: Path) -> types.ModuleType:
    """Run a file as the module of that name, which imports find from then on."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
