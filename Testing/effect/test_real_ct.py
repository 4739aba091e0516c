"""The effect on a real CT with the bundled model in the local server: everything but Slicer's window is real."""

import numpy as np
import pytest

from CTSAM3DLib.imaging.volume import Volume
from Testing.effect.conftest import Workplace
from Testing.support.data import DATA, needs_data

LIVER = 5
"""The bundled model has seen this patient: what is tested here is the way from clicks to masks, not its accuracy."""
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

pytestmark = needs_data("ct/torso-3mm.nii.gz", "label/torso-3mm.nii.gz")


@pytest.fixture(scope="module")
def computer():
    """The local servers, shared by the tests of this file: starting one takes a while."""
    from CTSAM3DLib.remote.local_server import LocalServer

    servers = {}

    def make(weights):
        return servers.setdefault(weights, LocalServer(models=[weights]))

    yield make
    for server in servers.values():
        server.stop()


@pytest.fixture
def torso(registered, computer):
    """The effect on the torso, as a user's: real settings, real requirements, a real server on this computer."""
    from CTSAM3DWidgets.Backends import Backends
    from CTSAM3DWidgets.Requirements import Requirements
    from CTSAM3DWidgets.Settings import Settings
    from CTSAM3DWidgets.ThisComputer import ThisComputer
    from Testing.support.mrml_nodes import add_segmentation, add_volume

    ct = Volume.read(DATA / "ct" / "torso-3mm.nii.gz")
    volume = add_volume(registered.scene, ct.array, RAS_FROM_LPS @ ct.geometry.ijk_to_lps, "torso")
    segmentation, (segment_id,) = add_segmentation(registered.scene, volume, "liver")
    editor = registered.segment_editor()
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    editor.setCurrentSegmentID(segment_id)
    editor.setActiveEffectByName("CTSAM3D")
    registered.process_events(0.05)
    effect = editor.effectByName("CTSAM3D").self()
    effect.backends = Backends(Settings(), Requirements(), ThisComputer(computer))
    workplace = Workplace(registered, editor, effect, volume, segmentation, segment_id, effect.backends)
    workplace.labels = Volume.read(DATA / "label" / "torso-3mm.nii.gz").array
    workplace.geometry = ct.geometry
    return workplace


def middle(torso, mask):
    """World RAS of the voxel of a mask that is nearest to its middle."""
    voxels = np.argwhere(mask)[:, ::-1]
    voxel = voxels[np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()]
    left, posterior, superior = torso.geometry.to_lps(voxel)
    return -left, -posterior, superior


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_a_liver_from_clicks_on_what_is_wrong(torso):
    truth = torso.labels == LIVER
    torso.click(middle(torso, truth))
    torso.settle(240)
    first = dice(torso.mask() > 0, truth)
    for _ in range(3):
        mask = torso.mask() > 0
        missing, wrong = truth & ~mask, mask & ~truth
        error = max(missing, wrong, key=np.count_nonzero)
        torso.click(middle(torso, error), control=error is wrong)
        torso.settle(60)
    assert len(torso.clicks()) == 4
    assert dice(torso.mask() > 0, truth) > max(0.6, first - 0.02)
    assert "ctsam3d-small" in torso.status()


def test_a_crash_of_the_server_is_not_noticed(torso):
    truth = torso.labels == LIVER
    torso.click(middle(torso, truth))
    torso.settle(240)
    mask = torso.mask()
    (server,) = torso.effect.backends.computer._servers.values()
    server._process._process.kill()
    server._process._process.wait()
    torso.effect.panel.undoButton.click()
    torso.effect.panel.redoButton.click()
    torso.settle(240)
    assert (torso.mask() == mask).all()
    assert "added" in torso.status()
