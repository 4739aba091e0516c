"""Tens of thousands of wrong requests to a server in a process of its own.

    python -m Testing.benchmarks.server_fuzz [--cases 20000] [--seed 0]

Prints what was answered to each kind of case, and the server's memory; ends with 1 where an answer is not as it has to
be, where the server's log holds an error, or where the server no longer gives the mask that it gave before.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Annotated

import requests
import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib import connect
from Testing.benchmarks.server_visits import visits, volumes
from Testing.support.fuzz import ID, Fuzzer, complaint, send
from Testing.support.server_process import ServerProcess

MEMORY_MIB = 256
SAMPLE = 250
"""Cases between two looks at the memory."""


def main(
    cases: Annotated[int, typer.Option(help="How many.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Another seed makes other cases.")] = 0,
) -> None:
    """Send the cases one after another, and count the answers."""
    console = Console(width=120)
    answered: defaultdict[str, Counter[int]] = defaultdict(Counter)
    wrong: list[str] = []
    with ServerProcess(f"--memory={MEMORY_MIB / 1024}") as server, requests.Session() as session:
        segmenter = connect(server.address)
        (volume,) = volumes(1)
        clicks = next(visits(volume, seed))[-1]
        before = segmenter.open(volume).segment(clicks)
        fuzzer = Fuzzer(seed, segmenter.model.info.name, segmenter.model.info.spacing)
        session.put(f"{server.address}/v1/volumes/{ID}", json=fuzzer.volume, timeout=30).raise_for_status()
        resident = [server.resident]
        begun = time.perf_counter()
        for number in range(cases):
            case = fuzzer.case(number)
            try:
                answer = send(session, server.address, case)
            except requests.RequestException as error:
                wrong.append(f"case {number}, {case.kind}: no answer ({type(error).__name__})")
                if not server.running:
                    break
                continue
            answered[case.kind][answer.status_code] += 1
            if problem := complaint(case, answer):
                wrong.append(f"case {number}, {case.kind}: {problem}")
            if number % SAMPLE == 0:
                resident.append(server.resident)
        seconds = time.perf_counter() - begun
        after = segmenter.open(volume).segment(clicks) if server.running else None
        alive = after is not None and after.mask.content_hash == before.mask.content_hash
        cached, defects = server.cached, server.defects

    table = Table(title=f"{sum(map(Counter.total, answered.values()))} wrong requests, seed {seed}")
    statuses = sorted({status for counts in answered.values() for status in counts})
    table.add_column("kind")
    for status in statuses:
        table.add_column(str(status), justify="right")
    for kind, counts in sorted(answered.items()):
        table.add_row(kind, *(str(counts[status] or "") for status in statuses))
    console.print(table)
    console.print(
        f"server: {resident[0]:.0f} MiB before, {max(resident):.0f} MiB at most, {resident[-1]:.0f} MiB after; "
        f"cache {cached:.0f} of {MEMORY_MIB} MiB; {cases / seconds:.0f} requests a second; seed {seed}"
    )
    for line in [*wrong[:20], *defects[:20]]:
        console.print(f"WRONG: {line}", markup=False)
    right = alive and not wrong and not defects
    console.print(
        f"answers that are not as they have to be: {len(wrong)}; errors in the log: {len(defects)}; "
        f"the same mask as before: {'yes' if alive else 'NO'}"
    )
    raise typer.Exit(0 if right else 1)


if __name__ == "__main__":
    typer.run(main)
