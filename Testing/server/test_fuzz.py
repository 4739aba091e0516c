"""Wrong requests by the hundred; `python -m Testing.benchmarks.server_fuzz` sends tens of thousands."""

from __future__ import annotations

from collections import Counter

import pytest
import requests

from Testing.server.conftest import serving
from Testing.server.fuzz import ID, Fuzzer, complaint, send

CASES = 500


@pytest.fixture(scope="module")
def fuzzed():
    with serving() as server:
        yield server


def test_wrong_requests_are_refused_in_one_sentence_and_change_nothing(fuzzed):
    fuzzer = Fuzzer(seed=5, model="threshold", spacing=1.5)
    address = f"{fuzzed.address}/v1/volumes/{ID}"
    kinds, wrong = Counter(), []
    with requests.Session() as session:
        assert session.put(address, json=fuzzer.volume, timeout=5).status_code == 204
        before = session.post(f"{address}/segment", json=fuzzer.clicks, timeout=5)
        assert before.status_code == 200
        for number in range(CASES):
            case = fuzzer.case(number)
            kinds[case.kind] += 1
            if problem := complaint(case, send(session, fuzzed.address, case)):
                wrong.append((number, case.kind, problem))
        session.put(address, json=fuzzer.volume, timeout=5)
        assert session.post(f"{address}/segment", json=fuzzer.clicks, timeout=5).status_code == 200
    assert not wrong
    assert len(kinds) == 17
    assert fuzzed.service.cache.nbytes <= fuzzed.service.cache.capacity
