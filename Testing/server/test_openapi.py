"""Requests made from the server's own description of itself, right ones and wrong ones, by schemathesis."""

from __future__ import annotations

import pytest
import requests

from CTSAM3DLib.remote.protocol import MEDIA_TYPE
from Testing.server.conftest import serving
from Testing.support.fuzz import ID, Fuzzer

hypothesis = pytest.importorskip("hypothesis")
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is missing: pip install '.[dev]'")

MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
UNCHECKED = [pytest.importorskip("schemathesis.specs.openapi.checks").positive_data_acceptance]
"""JSON Schema cannot say that three axes have to span space, or what is in a binary message."""

schemathesis.openapi.media_type(MEDIA_TYPE, hypothesis.strategies.binary())


@pytest.fixture(scope="module")
def described():
    with serving() as server:
        address = f"{server.address}/v1/volumes/{ID}"
        assert requests.put(address, json=Fuzzer(0, "threshold", 1.5).volume, timeout=5).status_code == 204
        yield schemathesis.openapi.from_url(f"{server.address}/openapi.json")


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name.lower())
def test_the_server_does_as_it_says(described, mode):
    tried = set()
    operations = [entry.ok() for entry in described.get_all_operations()]
    for operation in operations:
        if mode is schemathesis.GenerationMode.NEGATIVE and "{" not in operation.path:
            continue  # there is nothing in it that could be wrong

        @hypothesis.settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            case.call_and_validate(excluded_checks=UNCHECKED)
            tried.add(case.path)

        check()
    assert "/v1/volumes/{id}/segment" in tried
