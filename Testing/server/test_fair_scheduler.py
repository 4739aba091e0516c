"""One thread that works for everyone in turn."""

import threading

import pytest

from CTSAM3DServer.fair_scheduler import ClosedError, FairScheduler


@pytest.fixture
def held():
    """A worker whose thread is busy until the event is set."""
    worker, go, begun = FairScheduler("test"), threading.Event(), threading.Event()
    worker.submit("nobody", lambda: (begun.set(), go.wait(10)))
    begun.wait(10)
    yield worker, go
    go.set()
    worker.close()


def test_who_asks_for_much_does_not_hold_up_who_asks_for_little(held):
    worker, go = held
    order: list[str] = []
    futures = [worker.submit("much", lambda n=n: order.append(f"much {n}")) for n in range(4)]
    futures += [worker.submit("little", lambda: order.append("little"))]
    futures += [worker.submit("another", lambda n=n: order.append(f"another {n}")) for n in range(2)]
    assert worker.waiting == 7
    go.set()
    for future in futures:
        future.result(10)
    assert order == ["much 0", "little", "another 0", "much 1", "another 1", "much 2", "much 3"]


def test_an_error_belongs_to_who_asked(held):
    worker, go = held
    go.set()
    with pytest.raises(ZeroDivisionError):
        worker.submit("one", lambda: 1 / 0).result(10)
    assert worker.submit("two", lambda: "fine").result(10) == "fine"


def test_closing_finishes_what_has_begun_and_refuses_the_rest(held):
    worker, go = held
    waiting = worker.submit("one", lambda: "never")
    threading.Timer(0.1, go.set).start()
    worker.close()
    with pytest.raises(ClosedError, match="shutting down"):
        waiting.result(1)
    with pytest.raises(ClosedError, match="shutting down"):
        worker.submit("one", lambda: None)


def test_work_that_was_cancelled_is_not_done(held):
    worker, go = held
    done = []
    cancelled, kept = worker.submit("one", lambda: done.append(1)), worker.submit("one", lambda: done.append(2))
    cancelled.cancel()
    go.set()
    kept.result(10)
    assert done == [2]
