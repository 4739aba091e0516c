"""The page as a person has it: `ctsam3d web` in a process of its own, and the Chromium that is installed."""

from __future__ import annotations

import functools

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from Testing.support import web_sample as sample
from Testing.web.desk import Desk
from Testing.web.site import CHROMIUM, WINDOW, Site


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; install Debian's package chromium")
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        # No sandbox: tests may run as root.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def torso():
    """The sample's phantom with voxels of 3 mm, which is quicker to open."""
    from CTSAM3DLib.phantom.torso import torso

    return torso(spacing=(3.0, 3.0, 3.0))


@pytest.fixture(scope="session")
def ct_file(torso, tmp_path_factory):
    path = tmp_path_factory.mktemp("ct") / "torso.nii.gz"
    torso.ct.write(path)
    return path


@pytest.fixture(scope="session")
def site(ct_file, tmp_path_factory):
    """A site whose pages begin with the torso."""
    running = Site(str(ct_file), log=tmp_path_factory.mktemp("site") / "log")
    yield running
    running.stop()


@pytest.fixture
def new_desk(browser: Browser):
    """Opens addresses, each in a window of its own with its own cookies."""
    contexts = []

    def open_desk(address: str) -> Desk:
        context = browser.new_context(viewport=WINDOW, accept_downloads=True)
        contexts.append(context)
        desk = Desk(context.new_page())
        desk.page.goto(address)
        return desk

    yield open_desk
    for context in contexts:
        context.close()


@pytest.fixture
def desk(site, new_desk):
    """A page with the torso on it, just opened."""
    opened = new_desk(site.address)
    opened.wait_for_ct()
    return opened


@pytest.fixture
def middle(torso):
    """LPS of the voxel of a structure that is nearest to its middle."""
    return functools.partial(sample.middle, torso)
