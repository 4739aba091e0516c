"""Users who click all at once, and the check of every mask that they got."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from CTSAM3DLib import connect
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.session import Segmenter
from Testing.benchmarks.server_visits import click_lists

WATCH_S = 0.5


@dataclass(frozen=True)
class Answered:
    """One click of a user."""

    user: int
    clicks: list[Click]
    asked_at: float
    """Seconds since all began."""
    seconds: float
    mask: str
    """Its hash."""


def click_at_once(
    address: str, cts: Sequence[Volume], seconds: float, watch: Callable[[float], None], key: str | None = None
) -> list[Answered]:
    """One user on each CT, who clicks again as soon as the mask before is there, for so long.

    `watch` is called twice a second with the seconds since all began. Raises the first error that a user meets.
    """
    answered: list[Answered] = []
    failed: list[Exception] = []
    segmenters = [connect(address, key) for _ in cts]
    start = time.monotonic()

    def use(user: int) -> None:
        session = segmenters[user].open(cts[user])
        try:
            for clicks in click_lists(cts[user], seed=user):
                asked_at = time.monotonic() - start
                if asked_at > seconds:
                    return
                mask = session.segment(clicks).mask
                took = time.monotonic() - start - asked_at
                answered.append(Answered(user, clicks, asked_at, took, mask.content_hash))
        except Exception as error:  # whatever it is, the main thread raises it
            failed.append(error)

    threads = [threading.Thread(target=use, args=(user,)) for user in range(len(cts))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        watch(time.monotonic() - start)
        time.sleep(WATCH_S)
    if failed:
        raise failed[0]
    return answered


def wrong_masks(answered: Sequence[Answered], cts: Sequence[Volume], local: Segmenter) -> int:
    """How many masks differ from those of sessions without a server."""
    sessions = [local.open(ct) for ct in cts]
    return sum(sessions[one.user].segment(one.clicks).mask.content_hash != one.mask for one in answered)
