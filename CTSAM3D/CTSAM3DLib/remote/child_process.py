"""Python in a process of its own that takes no code from the current folder, where downloaded data may lie."""

from __future__ import annotations

import os
from collections.abc import Mapping

_RUN = (
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(python: str, module: str, *arguments: str) -> list[str]:
    """The command by which this interpreter runs a module, as `python -m` does.

    Before Python 3.11, which brought `-P`, `-m` looks for modules in the current folder first and cannot be told not
    to; `-c` does so too, but its code can take that folder off the path before it imports anything.
    """
    return [python, "-c", _RUN, module, *arguments]


def child_environment(inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment, our own by default, for such a process and for what it starts itself."""
    environment = dict(os.environ if inherited is None else inherited)
    environment["PYTHONSAFEPATH"] = "1"  # as -P, from Python 3.11 on
    # An empty part, as `export PYTHONPATH=$PYTHONPATH:/more` easily leaves one, is the current folder.
    folders = [folder for folder in environment.pop("PYTHONPATH", "").split(os.pathsep) if folder]
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment
