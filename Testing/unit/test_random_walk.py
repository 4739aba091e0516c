"""The potential of a random walk against the exact solution, and what it promises."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve

from CTSAM3DLib.segmentation.random_walk import potential

SHAPE = (9, 12, 10)


def problem(seed: int, shape=SHAPE):
    """Conductances over four orders of magnitude, weak pulls everywhere and strong ones at a few voxels."""
    rng = np.random.default_rng(seed)
    conductances = [
        np.exp(-rng.uniform(0, 9, [n - (axis == other) for other, n in enumerate(shape)])).astype(np.float32)
        for axis in range(3)
    ]
    inwards, outwards = (np.exp(rng.uniform(-9, -2, shape)).astype(np.float32) for _ in range(2))
    inwards[2, 3, 4] = outwards[6, 8, 5] = 100
    return conductances, inwards, outwards


def exact(conductances, inwards, outwards) -> np.ndarray:
    """By a direct solver, edge by edge."""
    index = np.arange(inwards.size).reshape(inwards.shape)
    rows, columns, weights = [], [], []
    for axis, weight in enumerate(conductances):
        low, high = (np.take(index, range(s, index.shape[axis] - 1 + s), axis).ravel() for s in (0, 1))
        rows += [low, high]
        columns += [high, low]
        weights += [weight.ravel()] * 2
    graph = coo_array((np.concatenate(weights).astype(float), (np.concatenate(rows), np.concatenate(columns))))
    graph = graph.tocsr()
    pulls = (inwards.astype(float) + outwards).ravel()
    system = diags_array(graph.sum(axis=1) + pulls) - graph
    return spsolve(system.tocsc(), inwards.ravel().astype(float)).reshape(inwards.shape)


@pytest.mark.parametrize("seed", range(4))
def test_the_potential_is_the_exact_one(seed):
    found = potential(*problem(seed), tolerance=1e-6, most_steps=2000)
    assert np.abs(found - exact(*problem(seed))).max() < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_the_exact_one_but_where_it_is_undecided(seed):
    found, true = potential(*problem(seed)), exact(*problem(seed))
    assert np.array_equal((found >= 0.5)[np.abs(true - 0.5) > 0.02], (true >= 0.5)[np.abs(true - 0.5) > 0.02])
    assert 0.05 < np.mean(true >= 0.5) < 0.95


def test_where_it_begins_changes_little():
    begun = np.random.default_rng(9).random(SHAPE, np.float32)
    difference = potential(*problem(0)) - potential(*problem(0), first=begun)
    assert 0 < np.abs(difference).max() < 0.02


def test_a_wall_is_not_crossed():
    conductances, inwards, outwards = (
        [np.full([n - (axis == other) for other, n in enumerate(SHAPE)], 1, np.float32) for axis in range(3)],
        np.full(SHAPE, 1e-6, np.float32),
        np.full(SHAPE, 1e-6, np.float32),
    )
    conductances[1][:, 5] = 0
    inwards[4, 2, 4] = outwards[4, 9, 4] = 100
    inside = potential(conductances, inwards, outwards) >= 0.5
    assert inside[:, :6].all()
    assert not inside[:, 6:].any()


def test_the_same_to_the_bit_whatever_the_number_of_threads():
    here = hashlib.sha256(potential(*problem(1, (40, 50, 60))).tobytes()).hexdigest()
    code = (
        "import hashlib; from Testing.unit.test_random_walk import *; "
        "print(hashlib.sha256(potential(*problem(1, (40, 50, 60))).tobytes()).hexdigest())"
    )
    for threads in ("1", "3"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        variables = {**os.environ, **dict.fromkeys(names, threads)}
        there = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
        assert there.stdout.strip() == here
