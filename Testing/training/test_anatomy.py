"""The tables of structures are those of the paper and of both releases of TotalSegmentator."""

import pytest

from training.anatomy import GROUPS, TISSUE_TYPES, TOTALSEG_PLUS_PLUS, V1, V2, canonical, group_of, index_of

SIZES = {
    "Head": 2,
    "Excretory organs": 5,
    "Cardiovascular vessels": 8,
    "Main chest organs": 12,
    "Main abdomen organs": 8,
    "Vertebrae": 24,
    "Ribs": 24,
    "Other bones": 11,
    "Muscles": 10,
    "Curated": 3,
}


def test_the_groups_of_figure_3_partition_the_indices():
    assert {group: len(members) for group, members in GROUPS.items()} == SIZES
    assert [index_of(name) for name in TOTALSEG_PLUS_PLUS.values()] == list(range(1, 108))
    assert sorted(index_of(name) for group, names in GROUPS.items() if group != "Curated" for name in names) == list(V1)
    assert list(V1) == list(range(1, 105))


def test_the_releases_share_97_names_and_hardly_an_index():
    assert list(V2) == list(range(1, 118))
    assert len(set(V2.values())) == 117
    shared = set(V1.values()) & set(V2.values())
    assert len(shared) == 97
    assert set(V1.values()) - shared == {
        "face",
        "pulmonary_artery",
        *(n for n in V1.values() if n.startswith("heart_")),
    }
    assert [index for index in V1 if V1[index] == V2[index]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("v1", "v2", "name"),
    [
        (7, 52, "aorta"),
        (36, 45, "vertebrae_C6"),
        (83, 70, "humerus_right"),
        (50, 90, "brain"),
        (104, 21, "urinary_bladder"),
    ],
)
def test_known_indices(v1, v2, name):
    assert V1[v1] == V2[v2] == name


def test_groups_by_name():
    assert group_of("small_bowel") == "Excretory organs"
    assert group_of("duodenum") == "Main abdomen organs"
    assert group_of("sacrum") == "Other bones"
    assert group_of("visceral_fat") == "Curated"
    assert group_of("spinal_cord") == group_of("Brainstem") == ""


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Right Kidney", "kidney_right"),
        ("left kidney", "kidney_left"),
        ("Right Adrenal Gland (RAG)", "adrenal_gland_right"),
        ("inferior vena cava", "inferior_vena_cava"),
        ("IVC", "inferior_vena_cava"),
        ("Portal vein and splenic vein", "portal_vein_and_splenic_vein"),
        ("Esophagus", "esophagus"),
        ("SpinalCord", "spinal_cord"),
        ("torso_fat", "visceral_fat"),
        ("RightParotid", "RightParotid"),
        ("cancer", "cancer"),
        ("label_41", "label_41"),
    ],
)
def test_spellings_of_other_data_sets(spelling, name):
    assert canonical(spelling) == name


def test_own_names_are_kept():
    for name in (*V1.values(), *V2.values(), *TOTALSEG_PLUS_PLUS.values(), *TISSUE_TYPES.values()):
        assert canonical(name) == name
