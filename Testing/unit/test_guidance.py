"""What the CT says of the prompts: geodesic distance against Dijkstra's, similarity, and the fine head's folding."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from CTSAM3DLib.execution.cpu.fast_network import FastOnCpu
from CTSAM3DLib.model.configs import SMALL
from CTSAM3DLib.model.network import CTSAM3D
from CTSAM3DLib.model.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from CTSAM3DLib.model.small.guidance import (
    DECAY_LENGTH,
    EDGE_COSTS,
    EMBEDDING_TEMPERATURE,
    class_and_instance_similarity,
    embedding_maps,
    embedding_similarity,
    geodesic,
    geodesic_proximity,
    guidance_maps,
    intensity_similarity,
)
from Testing.relative import off

ROUNDING = 1e-4
"""Of float32, as a share of the longest way."""


def shortest_ways(image: np.ndarray, seeds: np.ndarray, edge_cost: float) -> np.ndarray:
    """The true distance over 6-neighbours to the nearest seed."""
    index = np.arange(image.size).reshape(image.shape)
    starts, ends, costs = [], [], []
    for axis in range(3):
        a, b = (np.take(index, range(s, image.shape[axis] - 1 + s), axis).ravel() for s in (0, 1))
        starts.append(a)
        ends.append(b)
        costs.append(1 + edge_cost * np.abs(image.ravel()[a] - image.ravel()[b]))
    graph = coo_array((np.concatenate(costs), (np.concatenate(starts), np.concatenate(ends))), (image.size,) * 2)
    ways = dijkstra(graph.tocsr(), directed=False, indices=index[seeds], min_only=True)
    return ways.reshape(image.shape)


def swept(image: np.ndarray, seeds: np.ndarray, edge_cost: float) -> np.ndarray:
    tensors = (torch.from_numpy(array)[None, None] for array in (image.astype(np.float32), seeds))
    return geodesic(*tensors, (edge_cost,))[0, 0, 0].numpy()


def seeds_at(*voxels: tuple[int, int, int], side: int = 12) -> np.ndarray:
    seeds = np.zeros((side, side, side), bool)
    for voxel in voxels:
        seeds[voxel] = True
    return seeds


def two_halves(side: int) -> torch.Tensor:
    """0.2 at small x, 0.8 at large x; (1, 1, z, y, x)."""
    image = torch.full((1, 1, side, side, side), 0.2)
    image[..., side // 2 :] = 0.8
    return image


@pytest.mark.parametrize("edge_cost", EDGE_COSTS)
@pytest.mark.parametrize("roughness", [0, 1, 3])
def test_geodesic_distance_is_dijkstras_or_a_little_more(edge_cost, roughness):
    rng = np.random.default_rng(roughness)
    image = gaussian_filter(rng.random((12, 12, 12)), roughness)
    seeds = seeds_at((2, 3, 4), (10, 9, 1))
    true, found = shortest_ways(image, seeds, edge_cost), swept(image, seeds, edge_cost)
    assert (found >= true - ROUNDING * true.max()).all()
    assert (found[seeds] == 0).all()
    # In pure noise the shortest ways have more turns than there are sweeps; anatomy is smoother.
    assert np.median(found / np.maximum(true, 1)) < (1.2 if roughness == 0 else 1.01)


def test_geodesic_distance_is_exact_in_even_tissue_and_over_an_edge():
    image = two_halves(12)[0, 0].numpy()
    seeds = seeds_at((2, 3, 4))
    found = swept(image, seeds, 60.0)
    assert off(found, shortest_ways(image, seeds, 60.0)) < ROUNDING
    assert found[9, 9, 1] == pytest.approx(7 + 6 + 3, rel=ROUNDING)
    assert found[2, 3, 8] == pytest.approx(4 + 60 * 0.6, rel=ROUNDING)


def test_geodesic_distance_goes_round_a_wall():
    image = np.zeros((12, 12, 12))
    image[:, :, 6] = 1.0
    image[0, 0, 6] = 0.0  # the only gap
    seeds = seeds_at((0, 5, 4))
    found = swept(image, seeds, 400.0)
    assert off(found, shortest_ways(image, seeds, 400.0)) < ROUNDING
    assert found[0, 5, 8] == pytest.approx(5 + 4 + 5, rel=ROUNDING)


def test_nearness_falls_with_distance_and_knows_sides_of_an_edge():
    prompts = torch.zeros(1, 3, 64, 64, 64)
    prompts[0, 1, 32, 32, 20] = 1
    near = geodesic_proximity(two_halves(64), prompts)
    assert near.shape == (1, 3 * len(EDGE_COSTS), 32, 32, 32)
    for index, cost in enumerate(EDGE_COSTS):
        of_click = near[0, 3 * index + 1]
        assert of_click[16, 16, 10] == 1
        assert of_click[16, 16, 5] == pytest.approx(math.exp(-5 / DECAY_LENGTH), abs=1e-3)
        assert of_click[16, 16, 20] == pytest.approx(math.exp(-(10 + 0.6 * cost) / DECAY_LENGTH), abs=1e-3)


def test_similarity_is_one_in_the_tissue_under_the_click():
    prompts = torch.zeros(1, 3, 64, 64, 64)
    prompts[0, 0, :, :, 40:] = 0.9
    prompts[0, 2, 10, 10, 10] = 1
    mask, _, negative = intensity_similarity(two_halves(64), prompts)[0]
    assert mask[..., 32:].min() == pytest.approx(1, abs=1e-4)
    assert negative[..., :32].min() == pytest.approx(1, abs=1e-4)
    assert mask[..., :32].max() < 1e-6
    assert negative[..., 32:].max() < 1e-6


def test_kinship_is_one_where_the_vectors_are_those_of_the_click():
    vectors = torch.zeros(1, 2, 32, 32, 32)
    vectors[0, 0, ..., :16] = 1
    vectors[0, 1, ..., 16:] = 1
    prompts = torch.zeros(1, 3, 64, 64, 64)
    prompts[0, 0, :, :, 40:] = 0.9
    prompts[0, 1, 10, 10, 10] = 1
    mask, positive, negative = embedding_similarity(vectors, prompts)[0]
    assert mask[..., 16:].min() == positive[..., :16].min() == 1
    assert mask[..., :16].max() == positive[..., 16:].max() == pytest.approx(math.exp(-1 / EMBEDDING_TEMPERATURE))
    assert not negative.any()


def test_the_rim_of_a_click_does_not_count():
    """A click beside a border takes the intensity of its own side."""
    prompts = torch.zeros(1, 3, 64, 64, 64)
    prompts[0, 1, 30, 30, 31] = 1
    prompts[0, 1, 30, 30, 32] = 0.5
    assert intensity_similarity(two_halves(64), prompts)[0, 1, 30, 30, 31] > 0.9


def test_empty_prompts_give_nothing():
    image, prompts = two_halves(64), torch.zeros(1, 3, 64, 64, 64)
    assert not intensity_similarity(image, prompts).any()
    assert not geodesic_proximity(image, prompts).any()


def test_patches_of_a_batch_and_prompts_of_a_patch_are_independent():
    rng = torch.Generator().manual_seed(0)
    images, prompts = torch.rand(2, 1, 64, 64, 64, generator=rng), torch.zeros(2, 3, 64, 64, 64)
    prompts[0, 0, 30:40, 30:40, 30:40] = prompts[0, 1, 5, 6, 7] = prompts[1, 2, 50, 40, 3] = 1
    maps = torch.cat(
        [torch.nn.functional.avg_pool3d(intensity_similarity(images, prompts), 2), geodesic_proximity(images, prompts)],
        dim=1,
    )
    assert maps.shape[1] + 3 == guidance_maps(SMALL)  # and embedding_similarity
    for index in range(2):
        alone = slice(index, index + 1)
        assert torch.equal(geodesic_proximity(images[alone], prompts[alone]), maps[alone, 3:])
        assert (
            off(intensity_similarity(images[alone], prompts[alone]), intensity_similarity(images, prompts)[alone])
            < ROUNDING
        )
    filled = maps.flatten(2).amax(2) > 0
    assert filled.tolist() == [[True, True, False] * 3, [False, False, True] * 3]


def test_folding_eight_voxels_into_channels_and_back():
    x = torch.rand(2, 3, 8, 8, 8)
    folded = pixel_unshuffle(x)
    assert folded.shape == (2, 24, 4, 4, 4)
    for dz, dy, dx in np.ndindex(2, 2, 2):
        assert torch.equal(folded[:, 4 * dz + 2 * dy + dx :: 8], x[:, :, dz::2, dy::2, dx::2])
    assert torch.equal(pixel_shuffle(pixel_unshuffle(x[:, :1])), x[:, :1])
    assert torch.equal(pixel_unshuffle(pixel_shuffle(folded[:, :8])), folded[:, :8])


class TestKinshipAndIdentity:
    """Two structures of one kind and one of another: x below 10, from 10 to 20, and from 20 on."""

    def known(self):
        vectors = torch.zeros(1, 4, 32, 32, 32)
        vectors[:, 0, ..., :20] = vectors[:, 1, ..., 20:] = 1
        places = torch.zeros(1, 3, 32, 32, 32)
        places[..., 10:20] = 400
        return vectors, places

    def prompts(self, *clicks):
        prompts = torch.zeros(1, 3, 64, 64, 64)
        for channel, x in clicks:
            prompts[0, channel, 30, 30, 2 * x] = 1
        return prompts

    def test_a_click_is_akin_to_its_kind_and_identical_with_its_structure_alone(self):
        kin, identical = class_and_instance_similarity(*self.known(), self.prompts((1, 5))).split(3, dim=1)
        assert kin[0, 1, ..., :20].min() == pytest.approx(1)
        assert kin[0, 1, ..., 20:].max() == pytest.approx(math.exp(-1 / EMBEDDING_TEMPERATURE))
        assert identical[0, 1, ..., :10].min() == pytest.approx(1)
        assert identical[0, 1, ..., 10:20].max() < 1e-4

    def test_two_clicks_speak_each_for_itself(self):
        kin, identical = class_and_instance_similarity(*self.known(), self.prompts((1, 5), (1, 25))).split(3, dim=1)
        assert kin[0, 1].min() == pytest.approx(1)
        assert identical[0, 1, ..., 10:20].max() < 1e-4

    def test_a_mask_speaks_by_its_mean(self):
        prompts = self.prompts()
        prompts[..., 22 * 2 : 30 * 2] = 1
        kin = class_and_instance_similarity(*self.known(), prompts)[:, 0]
        assert kin[..., 20:].min() == pytest.approx(1)

    def test_prompts_that_are_not_there_are_near_nothing(self):
        maps = class_and_instance_similarity(*self.known(), self.prompts((2, 5)))
        assert maps[:, [0, 1, 3, 4]].max() == 0
        assert maps[:, 2].max() == pytest.approx(1)

    def test_a_network_without_places_knows_kinship_alone(self):
        vectors, places = self.known()
        prompts = self.prompts((1, 5))
        assert embedding_maps(vectors, prompts, 4).shape[1] == 3
        assert embedding_maps(torch.cat((vectors, places), dim=1), prompts, 4).shape[1] == 6


@torch.inference_mode()
def test_a_network_with_places_answers_fast_what_it_answers_plainly():
    torch.manual_seed(0)
    places = {"semantic_width": 6, "semantic_filters": (4, 6, 8), "semantic_places": True}
    network = CTSAM3D(dataclasses.replace(SMALL, **places)).eval()
    levels = network.encode(torch.rand(1, 1, 64, 64, 64))
    prompts = torch.zeros(1, 3, 64, 64, 64)
    prompts[0, 1, 30, 30, 30] = prompts[0, 2, 10, 40, 30] = 1
    fast = FastOnCpu(network)
    for prompted in (prompts, torch.zeros_like(prompts)):
        expected, _ = network.decode(levels, prompted)
        found, _ = fast.decode(levels, prompted)
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
