"""How an answer joins what was known before: in which patch, faded along its sides, and one way only when settled."""

import numpy as np
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, TrainedModel
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.canvas import MASK
from CTSAM3DLib.segmentation.fusion import REUSE_MARGIN, RIM, SETTLED
from CTSAM3DLib.segmentation.session import Segmenter, Session
from Testing.support.threshold_network import WINDOW, ThresholdNetwork

SPACING = 1.5
VOLUME = Volume(
    np.random.default_rng(0).integers(-100, 100, (160, 64, 64)).astype(np.int16),
    Geometry((160, 64, 64), (0.0, 0.0, 0.0), (SPACING,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1)),
)
MIDDLE = (80, 32, 32)


class ScriptedNetwork(ThresholdNetwork):
    """Answers each decode by the next of some masks (z, y, x), 0 or 1, and keeps its prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[np.ndarray] = []
        self.prompts: list[np.ndarray] = []

    def encode(self, image):
        return [image]

    def decode(self, levels, prompts):
        self.prompts.append(prompts[0].numpy())
        mask = self.script.pop(0) if self.script else np.zeros((64, 64, 64))
        return torch.as_tensor(mask, dtype=torch.float32)[None, None], torch.ones(1)


@pytest.fixture
def network() -> ScriptedNetwork:
    return ScriptedNetwork().eval()


@pytest.fixture
def session(network) -> Session:
    engine = Engine(TrainedModel(network, ModelInfo("scripted", WINDOW), "0" * 64), "cpu", plain=True)
    network.prompts.clear()  # those of the engine's own trial
    yield Segmenter(engine).open(VOLUME)
    engine.close()


def click(z: int, y: int = 32, x: int = 32, positive: bool = True) -> Click:
    return Click((x * SPACING, y * SPACING, z * SPACING), positive)


def cube(low: int, high: int) -> np.ndarray:
    mask = np.zeros((64, 64, 64))
    mask[low:high, low:high, low:high] = 1
    return mask


def known(session: Session, clicks: list[Click]) -> np.ndarray:
    """The probabilities (0..255) in the patch of the first click."""
    return session.segment(clicks, "patch").canvas.read((MIDDLE[0] - 32, 0, 0))


@pytest.mark.parametrize(("away", "patches"), [(32 - REUSE_MARGIN - 1, 1), (32 - REUSE_MARGIN, 2)])
def test_a_click_well_inside_an_earlier_patch_is_answered_there(session, network, away, patches):
    network.script = [cube(20, 40), cube(20, 40)]
    result = session.segment([click(80), click(80 + away)], "patch")
    assert len({patch.start for patch in result.patches}) == patches


def test_the_previous_mask_and_all_clicks_in_the_patch_are_prompts(session, network):
    network.script = [cube(20, 40), cube(20, 40)]
    session.segment([click(80), click(84, positive=False)], "patch")
    previous, positive, negative = network.prompts[-1]
    assert np.array_equal(previous > 0.5, cube(20, 40) > 0)
    assert positive[32, 32, 32] == 1
    assert negative[36, 32, 32] == 1


def test_an_answer_fades_into_what_was_known_along_the_sides_of_its_patch(session, network):
    network.script = [np.ones((64, 64, 64)), np.zeros((64, 64, 64))]
    first = click(80)
    before = known(session, [first])
    assert np.all(before == 255)
    after = known(session, [first, click(80, positive=False)])
    assert np.all(np.diff(after[:32, 32, 32].astype(int)) <= 0)
    assert after[0, 32, 32] > MASK
    assert np.all(after[RIM:-RIM, RIM:-RIM, RIM:-RIM] == 1)


def test_where_nothing_was_known_the_answer_counts_up_to_the_sides(session, network):
    network.script = [np.ones((64, 64, 64))]
    assert np.all(known(session, [click(80)]) == 255)


@pytest.mark.parametrize("count", [SETTLED - 1, SETTLED])
@pytest.mark.parametrize("positive", [True, False])
def test_from_a_count_of_clicks_on_a_mask_is_only_refined(session, network, count, positive):
    """A positive click then only adds, a negative one only takes away; before, the answer replaces what was known."""
    moved = np.roll(cube(20, 40), 5, axis=0)
    network.script = [cube(20, 40)] * (count - 1) + [moved]
    clicks = [click(80 + n) for n in range(count - 1)] + [click(81, positive=positive)]
    mask = known(session, clicks) >= MASK
    before, after = cube(20, 40) > 0, moved > 0
    refined = before | after if positive else before & after
    assert np.array_equal(mask, refined if count == SETTLED else after)


def test_a_negative_click_does_not_grow(session, network):
    network.script = [np.ones((64, 64, 64))] * 2
    result = session.segment([click(80, positive=False), click(80)], "patch")
    grown = session.segment([click(80, positive=False), click(80), click(90, positive=False)], "structure")
    assert len(result.patches) == 1
    assert grown.patches[-1].hops == 0
