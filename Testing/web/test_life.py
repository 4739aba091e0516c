"""What happens to a page when something ends: a reload, a crash, a lost connection, a network that is gone."""

import os
import signal
import socket
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import expect

from Testing.web.desk import Desk
from Testing.web.site import Site


def processes(site, module):
    """The site's processes of a module: its pages' or the network's."""
    children = psutil.Process(site.process.pid).children(recursive=True)
    return [child for child in children if module in child.cmdline()]


@pytest.fixture
def own_site(ct_file, tmp_path):
    """A site of this test's own, to be hurt."""
    running = Site(str(ct_file), log=tmp_path / "log")
    yield running
    running.stop()


def test_a_reload_changes_nothing(desk, middle):
    desk.click(middle("liver"))
    desk.settle()
    desk.add_segment()
    desk.click(middle("spleen"))
    desk.settle()
    before = desk.segments(), desk.clicks()
    desk.page.reload()
    desk.wait_for_ct()
    assert (desk.segments(), desk.clicks()) == before
    desk.page.keyboard.press("u")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(0)


def test_where_a_proxy_is_set_the_page_sends_it_nothing(ct_file, tmp_path, new_desk, middle, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        site = Site(str(ct_file), log=tmp_path / "log")
        try:
            desk = new_desk(site.address)
            desk.wait_for_ct()
            desk.click(middle("liver"))
            desk.settle()
            assert desk.segments()[0][1] > 0
        finally:
            site.stop()
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_two_tabs_have_two_cts(desk, site, middle, torso, tmp_path):
    other_ct = tmp_path / "other.nii.gz"
    torso.ct.write(other_ct)
    second = desk.page.context.new_page()
    second.goto(site.address)
    other = Desk(second)
    other.wait_for_ct()
    with second.expect_file_chooser() as chooser:
        second.get_by_role("button", name="Open").click()
        second.get_by_text("CT file or DICOM zip").click()
    chooser.value.set_files(str(other_ct))
    expect(second.locator(".ctsam3d-ct")).to_have_text("other", timeout=20_000)
    other.wait_for_ct()
    desk.click(middle("liver"))
    other.click(middle("kidney_left"))
    desk.settle()
    other.settle()
    assert desk.page.locator(".ctsam3d-ct").inner_text() == "torso"
    assert len(desk.segments()) == len(other.segments()) == 1
    assert desk.segments() != other.segments()


def test_a_crash_of_a_pages_process_is_survived(own_site, new_desk, middle):
    desk = new_desk(own_site.address)
    desk.wait_for_ct()
    desk.click(middle("liver"))
    desk.settle()
    desk.add_segment()
    desk.click(middle("kidney_left"))
    desk.settle()
    before = desk.segments(), desk.clicks()
    for child in processes(own_site, "CTSAM3DServer.web"):
        os.kill(child.pid, signal.SIGKILL)
    expect(desk.page.locator(".ctsam3d-lost")).to_be_visible(timeout=10_000)
    desk.wait_for_ct()
    desk.settle()
    assert (desk.segments(), desk.clicks()) == before


def test_the_network_may_crash(own_site, new_desk, middle):
    desk = new_desk(own_site.address)
    desk.wait_for_ct()
    desk.click(middle("liver"))
    desk.settle()
    before = desk.segments()
    for child in processes(own_site, "CTSAM3DServer"):
        os.kill(child.pid, signal.SIGKILL)
    desk.click(middle("spleen"))
    desk.settle()
    desk.page.keyboard.press("u")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(1)
    assert desk.segments() == before


def test_the_page_says_when_ctsam3d_web_has_ended(own_site, new_desk):
    desk = new_desk(own_site.address)
    desk.wait_for_ct()
    own_site.stop()
    expect(desk.page.locator(".ctsam3d-lost")).to_contain_text("does not answer", timeout=15_000)


def test_what_is_kept_is_there_again_at_the_next_run(new_desk, ct_file, middle, tmp_path):
    keep = ("--keep", str(tmp_path / "kept"))
    first = Site(str(ct_file), *keep, log=tmp_path / "log")
    desk = new_desk(first.address)
    desk.wait_for_ct()
    desk.click(middle("spleen"))
    desk.settle()
    before = desk.segments(), desk.clicks()
    first.process.kill()
    first.stop()
    port = urlsplit(first.address).port
    second = Site(*keep, log=tmp_path / "log", port=port)
    try:
        expect(desk.page.locator(".ctsam3d-lost")).to_have_count(0, timeout=30_000)
        desk.wait_for_ct()
        desk.settle()
        assert (desk.segments(), desk.clicks()) == before
    finally:
        second.stop()


def test_the_end_of_ctsam3d_web_leaves_no_process_and_no_file(own_site, new_desk):
    desk = new_desk(own_site.address)
    desk.wait_for_ct()
    children = psutil.Process(own_site.process.pid).children(recursive=True)
    assert children
    own_site.stop()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert own_site.process.returncode == 0


def test_a_disk_that_is_full_is_one_sentence(new_desk, torso, tmp_path):
    """No file may become larger than 1 MB, which a disk with 1 MB left says in the same way."""
    large = tmp_path / "large.nrrd"
    torso.ct.write(large)
    assert large.stat().st_size > 1e6
    site = Site(log=tmp_path / "log", largest_file=1_000_000)
    try:
        desk = new_desk(site.address)
        expect(desk.page.get_by_text("Try the sample CT")).to_be_visible(timeout=60_000)
        with desk.page.expect_file_chooser() as chooser:
            desk.page.get_by_role("button", name="Open a file").click()
        chooser.value.set_files(str(large))
        expect(desk.page.locator(".ctsam3d-problem")).to_contain_text("the disk is full", timeout=20_000)
    finally:
        site.stop()
