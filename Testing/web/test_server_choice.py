"""Masks computed at a server, chosen on the page: nothing is sent before the user has agreed."""

import pytest
from playwright.sync_api import expect

from CTSAM3DLib.remote.local_server import LocalServer


@pytest.fixture(scope="module")
def server():
    """A real server with a key: where it is, and the key."""
    with LocalServer() as running:
        yield running.endpoint()


def use_server(desk, address, key):
    desk.page.get_by_role("button", name="Use a server").click()
    expect(desk.page.get_by_text("are sent to this server")).to_be_visible()
    desk.page.get_by_label("Address, such as").fill(address)
    desk.page.get_by_label("Key, if it asks").fill(key)
    desk.page.get_by_role("button", name="Agree and use it").click()


def test_a_server_gives_the_masks_of_this_computer(desk, middle, server):
    desk.click(middle("kidney_left"))
    desk.settle()
    here = desk.segments()[0][1]
    use_server(desk, server.address, server.key)
    expect(desk.page.get_by_text(f"Masks are computed at {server.address}")).to_be_visible(timeout=20_000)
    desk.page.keyboard.press("Escape")
    desk.add_segment()
    desk.click(middle("kidney_left"))
    desk.settle()
    there = desk.segments()[1][1]
    assert there == pytest.approx(here, abs=2.0)  # the two clicks are a pixel apart
    assert desk.errors == []


def test_a_wrong_key_and_a_server_that_is_not_there_are_told_and_this_computer_goes_on(desk, middle, server):
    use_server(desk, server.address, "wrong")
    expect(desk.page.locator(".ctsam3d-problem")).to_contain_text("key", timeout=20_000)
    desk.page.get_by_label("Address, such as").fill("http://127.0.0.1:9")
    desk.page.get_by_role("button", name="Agree and use it").click()
    expect(desk.page.locator(".ctsam3d-problem")).to_contain_text("127.0.0.1:9", timeout=20_000)
    desk.page.get_by_role("button", name="Cancel").click()
    expect(desk.page.locator(".v-dialog")).to_have_count(0)
    desk.click(middle("spleen"))
    desk.settle()
    assert desk.segments()[0][1] > 0


def test_a_server_that_is_gone_is_told_and_the_page_waits_no_longer(desk, middle):
    with LocalServer() as running:
        endpoint = running.endpoint()
        use_server(desk, endpoint.address, endpoint.key)
        expect(desk.page.get_by_text(f"Masks are computed at {endpoint.address}")).to_be_visible(timeout=20_000)
        desk.page.keyboard.press("Escape")
    desk.click(middle("kidney_left"))
    expect(desk.page.locator(".ctsam3d-problem")).to_contain_text(endpoint.address, timeout=60_000)
    expect(desk.page.locator(".ctsam3d-status")).to_contain_text("made no mask")
    assert len(desk.clicks()) == 1
