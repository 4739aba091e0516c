"""Choosing where masks are computed: nothing is sent before the user agrees, and equal choices are one backend."""

import pytest

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.interaction.backends import THIS_COMPUTER, Backends, KnownServer, LocalBackend, ServerBackend

ADDRESS = "https://gpu:8900"


class Computer:
    """Models that say who was asked."""

    def __init__(self):
        self.started = []

    def models(self):
        return ("small", "large")

    def segmenter(self, model):
        self.started.append(model)
        return f"segmenter of {model}"

    def progress(self, model):
        return "" if model in self.started else f"starting {model}"


def backends(*servers):
    return Backends(Computer(), lambda: servers)


def test_this_computer_comes_first_and_has_its_own_models():
    known = backends(KnownServer(ADDRESS, models=("big",)), KnownServer("http://other:1"))
    assert known.addresses() == [THIS_COMPUTER, ADDRESS, "http://other:1"]
    assert known.models(THIS_COMPUTER) == ["small", "large"]
    assert known.models(ADDRESS) == ["big"]
    assert known.models("http://other:1") == []


def test_a_model_of_this_computer_starts_when_it_is_loaded():
    choice = backends().choice(THIS_COMPUTER, "small")
    assert choice.progress() == "starting small"
    assert choice.load() == "segmenter of small"
    assert choice.progress() == ""


def test_nothing_is_sent_to_a_server_before_the_user_agrees():
    servers = [KnownServer(ADDRESS, models=("big",))]
    known = Backends(Computer(), lambda: servers)
    assert known.has_agreed(THIS_COMPUTER)
    assert not known.has_agreed(ADDRESS)
    with pytest.raises(CTSAM3DError, match=f"Nothing is sent to {ADDRESS} before you agree"):
        known.choice(ADDRESS, "big")
    servers[0] = KnownServer(ADDRESS, "key", "ca.pem", ("big",), agreed=True)
    assert known.has_agreed(ADDRESS)
    assert known.choice(ADDRESS, "big") == ServerBackend(ADDRESS, "big", "key", "ca.pem")
    with pytest.raises(CTSAM3DError, match="does not offer the model small"):
        known.choice(ADDRESS, "small")


def test_a_server_that_is_no_longer_known_is_said_to_be_so():
    assert not backends().has_agreed(ADDRESS)
    with pytest.raises(CTSAM3DError, match="choose another"):
        backends().choice(ADDRESS, "big")


def test_equal_choices_are_the_same_backend_and_keys_are_not_shown():
    assert LocalBackend("small", Computer()) == LocalBackend("small", Computer())
    assert LocalBackend("small", Computer()) != LocalBackend("large", Computer())
    assert ServerBackend(ADDRESS, "big", "key") == ServerBackend(ADDRESS, "big", "key")
    assert ServerBackend(ADDRESS, "big", "key") != ServerBackend(ADDRESS, "big", "another")
    for shown in (ServerBackend(ADDRESS, "big", "secret"), KnownServer(ADDRESS, "secret")):
        assert "secret" not in repr(shown)


def test_a_server_is_connected_to_when_it_is_loaded(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "CTSAM3DLib.remote.remote_segmenter.connect", lambda *arguments, **options: asked.append((arguments, options))
    )
    ServerBackend(ADDRESS, "big", "key", "ca.pem").load()
    assert asked == [((ADDRESS,), {"key": "key", "ca_file": "ca.pem", "model": "big"})]
