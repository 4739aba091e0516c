"""One vocabulary: every source's names have kinds, and the tables of cases say what their voxels can be."""

import json
import subprocess
import sys
from fnmatch import fnmatchcase

import numpy as np
import pytest

from Testing.support.data import DATA, needs_data
from training import anatomy
from training.data.case_notes import CaseNotes, atlas_notes, case_notes, matches, noted
from training.data.datasets import read_dataset
from training.vocabulary import (
    KINDS,
    atlas_table,
    group_of_kind,
    is_one,
    kinds_of,
    label_table,
    leaf_groups,
    number_of,
    side_of,
)

ATLASES = (
    "hra-female",
    "hra-male",
    "myosim-arm-right",
    "myosim-skeleton",
    "spl-abdominal",
    "spl-head-neck",
    "spl-knee",
)
MEANINGLESS = {
    "body",
    "other_bones",
    "label_1",
    "label_3",
    "label_699",
    *(f"label_{number}" for number in range(41, 51)),
}
COMPLETE = CaseNotes(complete=True)


def allowed(table, value):
    """The kinds that a voxel of the value can be."""
    return {KINDS[index] for index in np.flatnonzero(table.allowed[value])}


@pytest.fixture(scope="module")
def records():
    return {record.case: record for record in read_dataset(DATA)}


def table_of(records, case):
    """The table of a case and the value of each of its labels."""
    labels = records[case].labels
    return label_table(labels, case_notes(case)), {name: value for value, name in labels.items()}


def atlas_labels(atlas):
    content = json.loads((DATA / "atlases" / atlas / "names.json").read_text())
    return {int(value): label["name"] for value, label in content["labels"].items()}


def test_the_kinds():
    assert KINDS[0] == "background"
    assert len(set(KINDS)) == len(KINDS) < 250
    assert [kind for kinds in leaf_groups().values() for kind in kinds] == list(KINDS[1:])
    assert set(anatomy.GROUPS) - {"Curated"} <= set(leaf_groups())
    assert group_of_kind("kidney") == "Excretory organs"
    assert group_of_kind("background") == group_of_kind("kidney_left") == ""


def test_groups_are_those_of_figure_3():
    for group, names in anatomy.GROUPS.items():
        if group != "Curated":
            kinds = {kind for name in names if name != "face" for kind in kinds_of(name)}
            assert {group_of_kind(kind) for kind in kinds} == {group}


def test_every_kind_is_a_name_of_itself():
    for kind in KINDS[1:]:
        assert kind in kinds_of(kind)
        assert kind in kinds_of(f"{kind}_left")


@pytest.mark.parametrize("section", ["wholes", "regions", "members", "pieces", "same"])
def test_all_names_of_the_table_mean_kinds(section):
    content = anatomy.TABLE[section]
    names = content if section in ("pieces", "same") else [name for named in content.values() for name in named]
    for name in names:
        assert kinds_of(name)
        assert kinds_of(name) <= set(KINDS[1:])


def test_names_of_totalsegmentator_have_kinds():
    for name in (*anatomy.EXTENDED.values(), *anatomy.TISSUE_TYPES.values()):
        assert kinds_of(name), name


@needs_data()
def test_names_of_the_shared_data_have_kinds(records):
    names = {name for record in records.values() for name in record.labels.values()}
    names |= {name for atlas in ATLASES for name in atlas_labels(atlas).values()}
    assert {name for name in names if not kinds_of(name)} == MEANINGLESS


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("kidney_left", {"kidney"}),
        ("Right Kidney", {"kidney"}),
        ("RightParotid", {"parotid_gland"}),
        ("SpinalCord", {"spinal_cord"}),
        ("vertebrae_L3", {"vertebra"}),
        ("vertebrae_S1", {"sacrum"}),
        ("vertebrae_cervical", {"vertebra"}),
        ("ribs_7_both_sides", {"rib"}),
        ("pelvis_both_hips", {"hip"}),
        ("Sacrum-L5-IntervertebralDisc", {"intervertebral_disc"}),
        ("scaphoid_right", {"carpal"}),
        ("left_zygomatic_muscle", {"zygomaticus"}),
        ("eye_left", {"eye_globe", "lens"}),
        ("lung_left", {"lung_upper_lobe", "lung_lower_lobe"}),
        ("lung_right", {"lung_upper_lobe", "lung_middle_lobe", "lung_lower_lobe"}),
        ("ribs_and_sternum", {"rib", "sternum", "costal_cartilage"}),
        ("colon_and_ileum", {"colon", "small_bowel"}),
        ("iliopsoas_right", {"psoas_major", "iliacus"}),
        ("skeletal_muscle", set(leaf_groups()["Muscles"])),
        ("label_41", set()),
        ("cancer of nowhere", set()),
    ],
)
def test_kinds_of_names(name, kinds):
    assert kinds_of(name) == kinds


def test_left_and_right_are_one_kind():
    for name in (
        *anatomy.EXTENDED.values(),
        "eye_left",
        "sartorius_left",
        "parotid_gland_left",
        "quadriceps_femoris_left",
    ):
        if "left" in name:
            assert kinds_of(name) == kinds_of(name.replace("left", "right"))


@pytest.mark.parametrize(
    ("name", "side", "number", "one"),
    [
        ("rib_left_7", "left", "7", True),
        ("ribs_7_both_sides", "", "7", False),
        ("vertebrae_L3", "", "L3", True),
        ("vertebrae_cervical", "", "", False),
        ("vertebrae_S1", "", "S1", False),
        ("T10-T9-IntervertebralDisc", "", "T10-T9", True),
        ("pelvis_both_hips", "", "", False),
        ("RightParotid", "right", "", True),
        ("lung_left", "left", "", True),
        ("heart", "", "", True),
        ("kidney", "", "", False),
        ("metacarpal_1_right", "right", "1", True),
        ("lunate_right", "right", "", True),
        ("foot_right", "right", "", False),
        ("lung_nodules", "", "", False),
        ("costal_cartilages", "", "", False),
        ("superior_mesenteric_artery", "", "", True),
        ("label_41", "", "41", False),
    ],
)
def test_side_number_and_whether_it_is_one(name, side, number, one):
    assert (side_of(name), number_of(name), is_one(name)) == (side, number, one)


def test_one_side_alone_needs_no_side():
    assert not is_one("patella")
    assert is_one("patella", one_sided=True)


def test_a_voxel_without_label_is_nothing_that_is_labelled():
    table = label_table(
        {1: "liver", 2: "kidney_left", 3: "kidney_right"}, CaseNotes(complete=True, incomplete=("kidney",))
    )
    assert set(KINDS) - allowed(table, 0) == {"liver"}
    assert allowed(table, 1) == {"liver"}
    assert allowed(table, 2) == allowed(table, 3) == {"kidney"}


def test_nothing_is_complete_in_a_case_without_notes():
    assert case_notes("no such case") == atlas_notes("no such atlas") == CaseNotes()
    table = label_table({1: "liver"}, case_notes("no such case"))
    assert table.allowed[0].all()
    assert table.weight[[0, 1, 2]].tolist() == [0, 1, 0]


def test_a_label_without_meaning_may_be_anything():
    table = label_table({1: "liver", 2: "other_bones"}, COMPLETE)
    assert table.allowed[2].all()
    assert table.weight[2] == 0
    assert not table.instance[2]
    assert "liver" not in allowed(table, 0)
    assert table.allowed[3].all()
    assert table.weight[3] == 0


def test_a_part_with_a_label_of_its_own_is_not_in_the_whole():
    table = label_table({1: "brain", 2: "cerebellum"}, COMPLETE)
    assert allowed(table, 1) == {"brain", "brainstem", "brain_ventricle"}
    incomplete = label_table({1: "brain", 2: "cerebellum"}, CaseNotes(complete=True, incomplete=("cerebellum",)))
    assert allowed(incomplete, 1) == kinds_of("brain")


def test_parts_of_one_side_stay_in_the_whole_of_the_other():
    lobes = {1: "lung_upper_lobe_left", 2: "lung_lower_lobe_left"}
    assert allowed(label_table({**lobes, 3: "lung_right"}, COMPLETE), 3) == kinds_of("lung_right")
    assert allowed(label_table({**lobes, 3: "lung"}, COMPLETE), 3) == kinds_of("lung")
    assert allowed(label_table({1: "lung_lower_lobe_left", 3: "lung_left"}, COMPLETE), 3) == {"lung_upper_lobe"}


def test_a_whole_of_which_all_parts_are_labelled_keeps_its_kinds():
    table = label_table({1: "pharynx", 2: "nasopharynx", 3: "oropharynx"}, COMPLETE)
    assert allowed(table, 1) == kinds_of("pharynx")


def test_a_whole_completes_its_parts_and_a_region_only_itself():
    assert not {"heart_atrium", "heart_myocardium"} & allowed(label_table({1: "heart"}, COMPLETE), 0)
    skull = label_table({1: "skull"}, COMPLETE)
    assert allowed(skull, 1) == {"skull", "mandible"}
    assert "mandible" in allowed(skull, 0)
    assert "skull" not in allowed(skull, 0)
    assert allowed(label_table({1: "skull", 2: "mandible"}, COMPLETE), 1) == {"skull"}


def test_one_bone_of_the_foot_is_not_all_of_its_kind():
    assert allowed(label_table({1: "foot_right", 2: "talus_right"}, COMPLETE), 1) == {"tarsal", "metatarsal"}


def test_weights_and_what_a_label_means_and_holds():
    notes = CaseNotes(
        complete=True,
        fair=("rib_*",),
        unsure=("colon",),
        means={"iliopsoas_*": "psoas_major"},
        holds={"liver": ("inferior_vena_cava",)},
    )
    labels = {1: "rib_left_7", 2: "colon", 3: "iliopsoas_left", 4: "liver"}
    table = label_table(labels, notes)
    assert table.weight[:6].tolist() == [1, 0.5, 0.25, 1, 1, 0]
    assert table.instance[1:5].tolist() == [True, False, True, True]
    assert allowed(table, 3) == {"psoas_major"}
    assert "iliacus" in allowed(table, 0)
    assert allowed(table, 4) == {"liver", "inferior_vena_cava"}
    assert "inferior_vena_cava" in allowed(table, 0)
    by_model = label_table(labels, CaseNotes(made_by="model", complete=True, unsure=("colon",)))
    assert by_model.weight[:6].tolist() == [0.5, 0.5, 0.25, 0.5, 0.5, 0]


def test_a_map_of_tissues():
    table = label_table(anatomy.TISSUE_TYPES, COMPLETE)
    assert [allowed(table, value) for value in (1, 2)] == [{"subcutaneous_fat"}, {"visceral_fat"}]
    assert "sartorius" in allowed(table, 3)
    assert {"subcutaneous_fat", "sartorius"}.isdisjoint(allowed(table, 0))


@pytest.mark.parametrize("value", [0, 256, -1])
def test_values_that_have_no_row(value):
    with pytest.raises(ValueError, match=f"The label values \\[{value}\\] are not from 1 to 255"):
        label_table({value: "liver"}, COMPLETE)


@needs_data()
def test_the_notes_speak_of_labels_that_are_there(records):
    labelled = {case: set(record.labels.values()) for case, record in records.items() if record.labels}
    assert all(any(fnmatchcase(case, pattern) for pattern in noted()["cases"]) for case in labelled)
    for section, known in (
        ("cases", labelled),
        ("atlases", {atlas: set(atlas_labels(atlas).values()) for atlas in ATLASES}),
    ):
        for key in noted()[section]:
            cases = [case for case in known if fnmatchcase(case, key)]
            assert cases, key
            names = set().union(*(known[case] for case in cases))
            notes = case_notes(cases[0]) if section == "cases" else atlas_notes(cases[0])
            for pattern in (*notes.fair, *notes.unsure, *notes.means, *notes.holds):
                assert any(matches(name, [pattern]) for name in names), (key, pattern)
            kinds = {kind for name in names for kind in kinds_of(notes.meaning(name))}
            for name in notes.incomplete:
                assert kinds_of(name) & kinds, (key, name)
            for more in (*notes.means.values(), *(name for names in notes.holds.values() for name in names)):
                assert kinds_of(more), (key, more)


@needs_data()
def test_tables_of_single_cases(records):
    table, value = table_of(records, "limb-sts-037")
    assert {"rib", "vertebra"} <= allowed(table, 0)
    assert "scapula" not in allowed(table, 0)
    assert table.weight[value["rib_left_4"]] == 0.5
    assert table.instance[value["rib_left_4"]]

    table, value = table_of(records, "head-cptaclscc-c3n-04457")
    assert allowed(table, value["brain"]) == {"brain", "brain_ventricle"}
    assert allowed(table, value["eye_globe_left"]) == {"eye_globe"}
    assert not table.instance[value["sinus_frontal"]]

    table, value = table_of(records, "head-cptachnscc-c3n-01192")
    assert allowed(table, value["airway"]) == {"nasopharynx", "oropharynx"}
    assert allowed(table, value["brain"]) == {"brain", "brain_ventricle"}
    assert "brain" in allowed(table, 0)

    table, value = table_of(records, "chest-lidc-0001")
    assert "pulmonary_artery" in allowed(table, value["heart"])
    assert table.weight[value["liver"]] == 0.5

    table, value = table_of(records, "torso-acrinnsclc-042")
    assert {"liver", "lung_middle_lobe", "rib"}.isdisjoint(allowed(table, 0))
    assert {"background", "colon", "vertebra"} <= allowed(table, 0)

    table, value = table_of(records, "openkbp-4")
    assert {"spinal_cord", "esophagus", "thyroid_cartilage"} <= allowed(table, 0)
    assert {"mandible", "parotid_gland"}.isdisjoint(allowed(table, 0))

    table, value = table_of(records, "vertebra-pir")
    assert all(allowed(table, number) == {"vertebra"} for number in value.values())
    assert not table.instance.any()


@needs_data()
@pytest.mark.parametrize("atlas", ATLASES)
def test_tables_of_atlases(atlas):
    labels = atlas_labels(atlas)
    table = atlas_table(atlas, labels)
    for number, name in labels.items():
        assert table.allowed[number].all() == (name in MEANINGLESS)
    assert table.allowed[0, 0]
    assert table.allowed[0].all() == (atlas == "myosim-arm-right")  # whose other arm is in a hollow label


@needs_data()
def test_what_the_notes_say_of_atlases():
    names = {name: value for value, name in atlas_labels("myosim-skeleton").items()}
    table = atlas_table("myosim-skeleton", atlas_labels("myosim-skeleton"))
    assert {"skull", "brain", "cerebellum"} <= allowed(table, names["skull"])
    assert not table.instance[names["skull"]]
    knee = {name: value for value, name in atlas_labels("spl-knee").items()}
    assert atlas_table("spl-knee", atlas_labels("spl-knee")).instance[knee["femur"]]


def test_the_vocabulary_needs_numpy_and_yaml_alone():
    code = "import sys, training.vocabulary; print({'torch', 'scipy', 'SimpleITK'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
