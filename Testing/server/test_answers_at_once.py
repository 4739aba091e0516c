"""What a server knows it tells without delay."""

import time

import requests


def test_the_body_of_an_answer_does_not_wait_for_its_head_to_be_acknowledged(server):
    """The fastest counts, since other work delays some; an acknowledgement would delay each by 40 ms."""
    waits = []
    with requests.Session() as session:
        for _ in range(20):
            begun = time.perf_counter()
            assert session.get(f"{server.address}/healthz", timeout=5).ok
            waits.append(time.perf_counter() - begun)
    assert min(waits[1:]) < 0.03
