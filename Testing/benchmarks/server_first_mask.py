"""What is sent before the first mask of a large CT, and how long it takes over a slow link.

    python -m Testing.benchmarks.server_first_mask [CT] [--mbit 20] [--delay-ms 40] [--json]

The server is a process of its own, knows nothing of the CT, and uses the bundled model on the CPU. The time begins with
the click in a CT that has just been opened, and ends with the mask on the CT's own grid.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib import connect
from CTSAM3DLib.imaging.volume import Volume
from Testing.benchmarks.interaction import CHEST, clicks_around_centre
from Testing.benchmarks.slow_link import SlowLink
from Testing.support.server_process import ServerProcess

MAX_SENT_MB = 2.0
FIRST_MASK_S = 3.0


@dataclass
class FirstMask:
    """One first click."""

    link: str
    sent_mb: float
    received_mb: float
    hash_s: float
    """Of which: the hash of the CT's content, before anything is sent."""
    first_mask_s: float
    done_s: float


def main(
    ct: Annotated[Path, typer.Argument(help="A CT; by default the large chest.")] = CHEST,
    mbit: Annotated[float, typer.Option(help="Rate of the link, Mbit/s each way.")] = 20.0,
    delay_ms: Annotated[float, typer.Option(help="Delay of the link, ms each way.")] = 40.0,
    rounds: Annotated[int, typer.Option(help="Fresh servers; the fastest over each link counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Click once in the middle of the CT, over a link that is slow and over one that is not."""
    volume = Volume.read(ct)
    links = {"loopback": (1e12, 0.0), f"{mbit:g} Mbit/s, {delay_ms:g} ms each way": (mbit * 1e6, delay_ms / 1000)}
    found = []
    for name, (rate, delay) in links.items():
        tries = [first_mask(name, Volume(volume.array, volume.geometry), rate, delay) for _ in range(rounds)]
        found.append(min(tries, key=lambda one: one.first_mask_s))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    table = Table(title=f"First mask of {volume.name}, {volume.array.nbytes / 1e6:.0f} MB; fastest of {rounds}")
    for heading in ("link", "sent, MB", "received, MB", "hash, s", "first mask, s", "done, s"):
        table.add_column(heading, justify="right")
    for one in found:
        numbers = (one.sent_mb, one.received_mb, one.hash_s, one.first_mask_s, one.done_s)
        table.add_row(one.link, *(f"{number:.2f}" for number in numbers))
    console = Console(width=120)
    console.print(table)
    slow = found[-1]
    console.print(
        f"marks: at most {MAX_SENT_MB:g} MB sent: {_kept(slow.sent_mb <= MAX_SENT_MB)}; "
        f"first mask over the slow link within {FIRST_MASK_S:g} s: {_kept(slow.first_mask_s <= FIRST_MASK_S)}; "
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


def first_mask(name: str, volume: Volume, rate: float, delay: float) -> FirstMask:
    """The first click at a fresh server."""
    with ServerProcess() as server, SlowLink(server.address, rate, delay) as link:
        segmenter = connect(link.address)
        session = segmenter.open(volume)
        before = link.up.carried, link.down.carried
        seen: list[tuple[float, int, int]] = []

        def note(partial) -> None:
            _ = partial.cropped
            seen.append((time.perf_counter(), link.up.carried, link.down.carried))

        begun = time.perf_counter()
        _ = volume.content_hash
        hashed = time.perf_counter()
        result = session.segment(clicks_around_centre(volume)[:1], progress=note)
        note(result)
        (at, sent, received), done = seen[0], seen[-1][0]
    return FirstMask(
        name, (sent - before[0]) / 1e6, (received - before[1]) / 1e6, hashed - begun, at - begun, done - begun
    )


def _kept(yes: bool) -> str:
    return "kept" if yes else "MISSED"


if __name__ == "__main__":
    typer.run(main)
