"""Many users at once on different CTs against one alone: do they meet, and how long does each wait?

    python -m Testing.benchmarks.server_users [--users 8] [--seconds 120] [--json]

Every user clicks at random, visit after visit, as soon as the mask before is there. Afterwards each mask is computed
once more in a session without a server; all of them have to be the same, bit for bit.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib import connect
from CTSAM3DLib.clicks import Click
from CTSAM3DLib.session import Segmenter
from CTSAM3DLib.volume import Volume
from Testing.benchmarks.server_process import ServerProcess
from Testing.benchmarks.server_visits import click_lists, volumes

MEMORY_MIB = 512
ALONE_S = 30


@dataclass
class Answered:
    """One click of a user."""

    user: int
    clicks: list[Click]
    seconds: float
    mask: str
    """Hash."""


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
    answered: list[Answered] = []
    failed: list[BaseException] = []
    with ServerProcess(f"--memory={MEMORY_MIB / 1024}") as server:
        segmenters = [connect(server.address) for _ in cts]
        end = time.monotonic() + seconds

        def use(user: int) -> None:
            session = segmenters[user].open(cts[user])
            try:
                for clicks in click_lists(cts[user], seed=user):
                    if time.monotonic() > end:
                        return
                    begun = time.perf_counter()
                    mask = session.segment(clicks).mask
                    answered.append(Answered(user, clicks, time.perf_counter() - begun, mask.content_hash))
            except Exception as error:  # whatever it is, it is told by the main thread
                failed.append(error)

        threads = [threading.Thread(target=use, args=(user,)) for user in range(len(cts))]
        for thread in threads:
            thread.start()
        resident = cached = 0.0
        while any(thread.is_alive() for thread in threads):
            resident, cached = max(resident, server.resident), max(cached, server.cached)
            time.sleep(0.5)
    if failed:
        raise failed[0]
    sessions = [local.open(ct) for ct in cts]
    wrong = sum(sessions[one.user].segment(one.clicks).mask.content_hash != one.mask for one in answered)
    waits = [one.seconds for one in answered]
    p50, p95 = (float(np.percentile(waits, share)) for share in (50, 95))
    return Load(len(cts), len(answered), len(answered) / seconds, p50, p95, resident, cached, wrong)


if __name__ == "__main__":
    typer.run(main)
