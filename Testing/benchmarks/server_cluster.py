"""Two replicas on Ray Serve under load, one of which is killed.

    python -m Testing.benchmarks.server_cluster [--users 4] [--seconds 60] [--json]

Needs the extra `cluster`. Every mask is compared with that of a session without a server; no click may be lost.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib.segmentation.session import Segmenter
from Testing.benchmarks.server_load import click_at_once, wrong_masks
from Testing.benchmarks.server_visits import volumes
from Testing.support.ray_cluster import RayCluster


@dataclass
class Span:
    """The clicks of one part of the time."""

    name: str
    clicks: int
    p50_s: float
    p95_s: float
    longest_s: float


def main(
    users: Annotated[int, typer.Option(help="How many at once.")] = 4,
    seconds: Annotated[float, typer.Option(help="For so long; the replica is killed after a third of it.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Let users click, and kill one of two replicas in the meantime."""
    cts = volumes(users)
    killed_at: list[float] = []
    whole_at: list[float] = []
    changes: list[int] = []
    with tempfile.TemporaryDirectory() as folder, RayCluster(Path(folder)) as cluster:

        def watch(now: float) -> None:
            if not killed_at and now > seconds / 3:
                changes.append(len(cluster.rings))
                cluster.kill_one()
                killed_at.append(now)
            elif killed_at and not whole_at and 2 in cluster.rings[changes[0] :]:
                whole_at.append(now)

        answered = click_at_once(cluster.address, cts, seconds, watch, cluster.key)
    wrong = wrong_masks(answered, cts, Segmenter.load(device="cpu"))
    (killed,), whole = killed_at, (whole_at or [float("inf")])[0]
    spans = {"two replicas": (0.0, killed), "one killed": (killed, whole), "two again": (whole, float("inf"))}
    found = []
    for name, (first, last) in spans.items():
        # A click that is underway when the replica dies belongs to the time after that.
        waits = [one.seconds for one in answered if first <= one.asked_at + one.seconds < last]
        if waits:
            found.append(Span(name, len(waits), *np.percentile(waits, (50, 95, 100)).tolist()))
    if as_json:
        typer.echo(json.dumps({"spans": [asdict(span) for span in found], "wrong_masks": wrong}))
        raise typer.Exit(int(wrong > 0))
    table = Table(title=f"{users} users on two replicas, one killed after {killed:.0f} s")
    for heading in ("", "clicks", "p50, s", "p95, s", "longest, s"):
        table.add_column(heading, justify="right")
    for span in found:
        table.add_row(span.name, str(span.clicks), *(f"{n:.2f}" for n in (span.p50_s, span.p95_s, span.longest_s)))
    console = Console(width=120)
    console.print(table)
    console.print(
        f"{len(answered)} clicks, none lost, {wrong} wrong masks; two replicas got requests again "
        f"{whole - killed:.0f} s after the kill; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    raise typer.Exit(int(wrong > 0))


if __name__ == "__main__":
    typer.run(main)
