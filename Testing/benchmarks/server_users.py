"""Many users at once on different CTs against one alone: do they meet, and how long does each wait?

    python -m Testing.benchmarks.server_users [--users 8] [--seconds 120] [--json]

Every user clicks at random, visit after visit, as soon as the mask before is there. Afterwards each mask is computed
once more in a session without a server; all of them have to be the same, bit for bit.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.session import Segmenter
from Testing.benchmarks.server_load import click_at_once, wrong_masks
from Testing.benchmarks.server_visits import volumes
from Testing.support.server_process import ServerProcess

MEMORY_MIB = 512
ALONE_S = 30


@dataclass
class Load:
    """What users at once met with."""

    users: int
    clicks: int
    clicks_a_second: float
    p50_s: float
    p95_s: float
    resident_mib: float
    cached_mib: float
    """At most, of the bound."""
    wrong_masks: int


def main(
    users: Annotated[int, typer.Option(help="How many at once.")] = 8,
    seconds: Annotated[float, typer.Option(help="For so long.")] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Let one user click alone, and then many at once."""
    cts = volumes(users)
    local = Segmenter.load(device="cpu")
    loads = [_load(local, cts[:1], min(ALONE_S, seconds)), _load(local, cts, seconds)]
    if as_json:
        typer.echo(json.dumps([asdict(load) for load in loads]))
        raise typer.Exit(int(any(load.wrong_masks for load in loads)))
    table = Table(title=f"Users at once, each on a CT of their own; {seconds:g} s")
    for heading in ("users", "clicks", "clicks/s", "p50, s", "p95, s", "process, MiB", "cache, MiB", "wrong masks"):
        table.add_column(heading, justify="right")
    for load in loads:
        numbers = (f"{load.clicks_a_second:.2f}", f"{load.p50_s:.2f}", f"{load.p95_s:.2f}")
        memory = (f"{load.resident_mib:.0f}", f"{load.cached_mib:.0f} of {MEMORY_MIB}")
        table.add_row(str(load.users), str(load.clicks), *numbers, *memory, str(load.wrong_masks))
    console = Console(width=120)
    console.print(table)
    alone, together = loads
    console.print(
        f"against one user: p50 {together.p50_s / alone.p50_s:.1f}x, p95 {together.p95_s / alone.p95_s:.1f}x, "
        f"clicks a second {together.clicks_a_second / alone.clicks_a_second:.1f}x; "
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    raise typer.Exit(int(any(load.wrong_masks for load in loads)))


def _load(local: Segmenter, cts: list[Volume], seconds: float) -> Load:
    memory = [(0.0, 0.0)]
    with ServerProcess(f"--memory={MEMORY_MIB / 1024}") as server:
        answered = click_at_once(
            server.address, cts, seconds, lambda _: memory.append((server.resident, server.cached))
        )
    resident, cached = (max(values) for values in zip(*memory, strict=True))
    p50, p95 = (float(np.percentile([one.seconds for one in answered], share)) for share in (50, 95))
    wrong = wrong_masks(answered, cts, local)
    return Load(len(cts), len(answered), len(answered) / seconds, p50, p95, resident, cached, wrong)


if __name__ == "__main__":
    typer.run(main)
