"""The tests as on other processors: `python -m Testing.processors`, in full or (`--numeric`) those that compute.

On one machine the same question has the same answer to the bit, whatever was asked before; between machines numbers
differ by rounding. Neither may hang on the processor that the tests happen to run on. So the mathematics libraries of
PyTorch are told to compute as others do: MKL by `MKL_CBWR`, PyTorch's own loops by `ATEN_CPU_CAPABILITY`, oneDNN by
`ONEDNN_MAX_CPU_ISA`. A processor cannot be told to be a better one; what it does not know, the libraries leave out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

SETTINGS = ("MKL_CBWR=COMPATIBLE", "MKL_CBWR=AVX2", "ATEN_CPU_CAPABILITY=default", "ONEDNN_MAX_CPU_ISA=SSE41")
NUMERIC = tuple(
    f"Testing/unit/test_{name}.py"
    for name in ("winograd", "fast_decoder", "network_parity", "guidance", "other_processors")
)
"""Tests of the network's numbers; all others take its answers as they come."""
ROOT = Path(__file__).resolve().parents[1]


def environment(setting: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with a setting in place of any other that it has."""
    names = {of_known.partition("=")[0] for of_known in SETTINGS}
    return {name: value for name, value in os.environ.items() if name not in names} | dict(setting)


def main(
    settings: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE; by default all four.")] = None,
    numeric: Annotated[bool, typer.Option("--numeric", help="Only the tests of the network's numbers.")] = False,
) -> None:
    """Run the tests under each setting, and end with 1 if any fails."""
    failed = []
    for setting in settings or SETTINGS:
        name, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"'{setting}' is not a setting; give NAME=VALUE, for instance {SETTINGS[0]}.")
        print(f"== {setting}", flush=True)
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", *(NUMERIC if numeric else ())]
        code = subprocess.run(command, cwd=ROOT, env=environment({name: value})).returncode
        print(f"== {setting}: {'failed' if code else 'passed'} in {time.monotonic() - begun:.0f} s", flush=True)
        if code:
            failed.append(setting)
    if failed:
        print(f"Tests fail under {', '.join(failed)}.")
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
