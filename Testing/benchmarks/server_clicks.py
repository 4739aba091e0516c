"""Thousands of clicks, and the server's memory all the while.

    python -m Testing.benchmarks.server_clicks [--clicks 5000] [--reach patch] [--json]

Four users click in turn on CTs of their own, until the caches have been full for long; with the reach of a patch unless
told otherwise, because masks that grow take several times as long. The memory counts as flat where
a straight line through its second half rises by less than a hundredth of it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib import connect
from CTSAM3DLib.segmentation.growth import Reach
from Testing.benchmarks.server_visits import click_lists, volumes
from Testing.support.server_process import ServerProcess

MEMORY_MIB = 256
USERS = 4
SAMPLES = 20
MAX_RISE = 0.01


@dataclass
class Sample:
    """The server after so many clicks."""

    clicks: int
    resident_mib: float
    cached_mib: float
    click_s: float
    """Mean of the clicks since the sample before."""


def main(
    clicks: Annotated[int, typer.Option(help="How many.")] = 5000,
    reach: Annotated[Reach, typer.Option(help="How far masks may go.")] = "patch",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Click, and look at the memory twenty times."""
    cts = volumes(USERS)
    with ServerProcess(f"--memory={MEMORY_MIB / 1024}") as server:
        sessions = [connect(server.address).open(ct) for ct in cts]
        users = [click_lists(ct, seed=user) for user, ct in enumerate(cts)]
        samples = [Sample(0, server.resident, server.cached, 0.0)]
        begun = time.perf_counter()
        for count in range(1, clicks + 1):
            user = count % USERS
            sessions[user].segment(next(users[user]), reach)
            if count % max(clicks // SAMPLES, 1) == 0:
                mean = (time.perf_counter() - begun) / (count - samples[-1].clicks)
                samples.append(Sample(count, server.resident, server.cached, mean))
                begun = time.perf_counter()
    late = samples[len(samples) // 2 :]
    counts, resident = [sample.clicks for sample in late], [sample.resident_mib for sample in late]
    rise = float(np.polyfit(counts, resident, 1)[0]) * (counts[-1] - counts[0]) / resident[0]
    flat = rise < MAX_RISE
    if as_json:
        typer.echo(json.dumps({"samples": [asdict(sample) for sample in samples], "rise": rise}))
        raise typer.Exit(int(not flat))
    table = Table(title=f"The server's memory over {clicks} clicks of {USERS} users")
    for heading in ("clicks", "process, MiB", f"cache, MiB of {MEMORY_MIB}", "a click, s"):
        table.add_column(heading, justify="right")
    for sample in samples:
        memory = (f"{sample.resident_mib:.0f}", f"{sample.cached_mib:.0f}")
        table.add_row(str(sample.clicks), *memory, f"{sample.click_s:.3f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"the second half rises by {100 * rise:+.2f} %: {'flat' if flat else 'NOT FLAT'}")
    raise typer.Exit(int(not flat))


if __name__ == "__main__":
    typer.run(main)
