"""Two small made-up patients, prepared, and a plan with a very thin network."""

import dataclasses

import numpy as np

from Testing.training.conftest import THIN
from training.data.prepared import Prepared, PreparedCase, quantised
from training.learning.looks import LookRange
from training.learning.plan import Plan, Task
from training.learning.poses import PoseRange

WINDOW = (-1000.0, 800.0)
PLAIN_LOOK = LookRange(recoloured=0, gain=0, shift_hu=0, noisy=0, blurred=0, thick=0, cut=0, furnished=0)
PLAIN_POSE = PoseRange(upright_share=1, turn_degrees=0, scale=0, stretch=0, bend=0)
NAMES = {1: "liver", 2: "kidney_left", 3: "kidney_right", 4: "vertebrae_L1", 5: "vertebrae_L2"}


def patient(name: str, region: str, seed: int, shape=(70, 60, 80)) -> PreparedCase:
    """Boxes of five structures and two supervoxels in soft tissue."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for value, (z, y, x) in enumerate(((20, 30, 20), (40, 15, 15), (40, 15, 60), (10, 45, 40), (24, 45, 40)), start=1):
        labels[z : z + 12, y : y + 8, x : x + 10] = value
    hu = 40 + 60.0 * labels + rng.normal(0, 10, shape)
    hu[:, :5] = -1000
    pieces = np.zeros(shape, np.uint16)
    pieces[50:60, 40:50, 10:30], pieces[50:60, 40:50, 40:60] = 1, 300
    return PreparedCase(name, name, region, "ct", NAMES, labels, quantised(hu.astype(np.int16), WINDOW), pieces)


def prepared() -> Prepared:
    return Prepared(3.0, WINDOW, (patient("first", "abdomen", 0), patient("second", "chest", 1, (50, 66, 61))))


def thin_plan(**changes) -> Plan:
    tasks = {
        "label_maps": Task(share=0.5, batch=2, rate=1e-2),
        "clicks": Task(share=0.3, batch=2, rate=1e-2, rounds=2, pieces=0.3),
        "cross_patch": Task(share=0.2, batch=2, rate=1e-2),
    }
    network = {**THIN, "semantic_places": True}
    regions = {"abdomen": 0.7, "chest": 0.3}
    fields = {"network_changes": network, "regions": regions, "tasks": tasks, "held_out": (), "precision": "float32"}
    return dataclasses.replace(Plan.read("whole-body.yaml"), **{**fields, **changes})
