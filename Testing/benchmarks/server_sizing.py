"""How much memory a server needs: for itself, for a volume, for clicks in it.

    python -m Testing.benchmarks.server_sizing [--json]

A fresh server for each CT, on the CPU, with a cache that nothing is dropped from.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib import connect
from CTSAM3DLib.imaging.volume import Volume
from Testing.benchmarks.server_visits import CTS, click_lists, volumes
from Testing.support.server_process import MIB, ServerProcess

CLICKS = (1, 10, 30)
NAMES = ("openkbp-*", "torso-3mm", "abdomen-crlm-1004", "chest-lidc-0314")


@dataclass
class Need:
    """What the clicks in one CT took."""

    ct: str
    ct_mib: float
    start_mib: float
    """The server's process before anything was sent."""
    cached_mib: list[float]
    """In its cache after so many clicks."""
    resident_mib: float
    """Its process after all of them."""


def main(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Click in several CTs, and read off the server's cache."""
    paths = [path for name in NAMES for path in sorted(CTS.glob(f"{name}.nii.gz"))[:1]]
    needs = [measure(ct) for ct in (map(Volume.read, paths) if paths else volumes(1))]
    if as_json:
        typer.echo(json.dumps([asdict(need) for need in needs]))
        return
    table = Table(title="MiB of the server's memory, bundled model on the CPU")
    headings = (
        "CT",
        "the CT itself",
        "process before",
        *(f"cache, {count} clicks" for count in CLICKS),
        "process after",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for need in needs:
        numbers = (need.ct_mib, need.start_mib, *need.cached_mib, need.resident_mib)
        table.add_row(need.ct, *(f"{number:.0f}" for number in numbers))
    Console(width=120).print(table)


def measure(ct: Volume) -> Need:
    """Click at places that are far from one another, three times at each."""
    with ServerProcess("--memory=4") as server:
        start = server.resident
        session = connect(server.address).open(ct)
        cached = []
        for count, clicks in enumerate(itertools.islice(click_lists(ct, seed=0), CLICKS[-1]), start=1):
            session.segment(clicks)
            if count in CLICKS:
                cached.append(server.cached)
        return Need(ct.name, ct.array.nbytes / MIB, start, cached, server.resident)


if __name__ == "__main__":
    typer.run(main)
