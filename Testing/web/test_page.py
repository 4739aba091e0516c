"""A person at the page, from a click to the file that is taken home."""

import re
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from playwright.sync_api import expect

from Testing.web.files import dice, mask_of


def saved(desk, tmp_path, title="Segments, .seg.nrrd"):
    with desk.page.expect_download() as download:
        desk.page.get_by_role("button", name="Save").click()
        desk.page.get_by_text(title).click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def truth(torso, name):
    return torso.labels == next(label for label, known in torso.names.items() if known == name)


def worst_place(torso, wrong):
    """LPS of the voxel that lies deepest in an error."""
    import edt

    depth = edt.edt(wrong, anisotropy=torso.ct.geometry.spacing[::-1], black_border=True)
    voxel = np.unravel_index(depth.argmax(), depth.shape)
    return tuple(float(mm) for mm in torso.ct.geometry.to_lps(voxel[::-1]))


def test_a_click_shows_a_mask_and_more_clicks_mend_it(desk, torso, middle, tmp_path):
    before = desk.picture("Axial")
    desk.click(middle("liver"))
    desk.settle()
    assert desk.picture("Axial") != before
    assert "mL added" in desk.status
    wanted = truth(torso, "liver")
    scores = []
    for _ in range(4):
        mask = mask_of(saved(desk, tmp_path), "Segment 1", torso.ct)
        scores.append(dice(mask, wanted))
        missing, extra = wanted & ~mask, mask & ~wanted
        larger = missing if missing.sum() > extra.sum() else extra
        desk.click(worst_place(torso, larger), control=larger is extra)
        desk.settle()
    scores.append(dice(mask_of(saved(desk, tmp_path), "Segment 1", torso.ct), wanted))
    assert scores[-1] > max(scores[0] + 0.03, 0.8), scores
    assert desk.errors == []


@pytest.mark.parametrize("how", ["control", "right", "switch"])
def test_a_negative_click_is_one_in_three_ways(desk, middle, how):
    desk.click(middle("liver"))
    desk.settle()
    if how == "switch":
        outside = desk.page.get_by_role("button", name="Outside")
        outside.click()
        expect(outside).to_have_class(re.compile("v-btn--active"))
        desk.click(middle("stomach"))
    else:
        desk.click(middle("stomach"), button="right" if how == "right" else "left", control=how == "control")
    desk.settle()
    assert desk.clicks() == ["+1", "-2"]


def test_zoom_and_pan_are_no_clicks(desk, middle):
    box = desk.view("Axial")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = desk.steady_picture("Axial")
    for button, keys in (("right", None), ("middle", None), ("left", "Shift")):
        if keys:
            desk.page.keyboard.down(keys)
        desk.page.mouse.move(x, y)
        desk.page.mouse.down(button=button)
        for step in range(6):
            desk.page.mouse.move(x + 4 * step, y + 8 * step)
        desk.page.mouse.up(button=button)
        if keys:
            desk.page.keyboard.up(keys)
        before = desk.steady_picture("Axial", other_than=before)
    assert desk.clicks() == []


def test_undo_and_redo_bring_back_clicks_and_mask(desk, middle):
    desk.click(middle("kidney_left"))
    desk.settle()
    first = desk.segments()
    desk.click(middle("spleen"))
    desk.settle()
    second = desk.segments()
    assert second != first
    desk.page.keyboard.press("u")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(1)
    assert desk.segments() == first
    desk.page.keyboard.press("Control+z")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(0)
    assert desk.segments() == [("Segment 1", 0.0)]
    desk.page.keyboard.press("Shift+U")
    desk.page.get_by_role("button", name=re.compile("Redo")).click()
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(2)
    assert desk.segments() == second


def test_a_second_segment_leaves_the_first_alone(desk, torso, middle, tmp_path):
    desk.click(middle("kidney_left"))
    desk.settle()
    before = mask_of(saved(desk, tmp_path), "Segment 1", torso.ct)
    desk.add_segment()
    desk.click(middle("spleen"))
    desk.settle()
    desk.click(middle("kidney_left"))
    desk.settle()
    path = saved(desk, tmp_path)
    assert (mask_of(path, "Segment 1", torso.ct) == before).all()
    assert mask_of(path, "Segment 2", torso.ct).any()
    desk.page.keyboard.press("1")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(1)


def test_a_point_is_dragged_and_deleted(desk, middle):
    desk.click(middle("kidney_left"))
    desk.settle()
    of_left = desk.segments()
    x, y = desk.place("Axial", middle("kidney_left"))
    to = desk.place("Axial", middle("kidney_right"))
    desk.page.mouse.move(x, y)
    desk.page.wait_for_timeout(300)
    desk.page.mouse.down()
    for part in np.linspace(0, 1, 12):
        desk.page.mouse.move(x + part * (to[0] - x), y + part * (to[1] - y))
        desk.page.wait_for_timeout(30)
    desk.page.mouse.up()
    desk.until(lambda: desk.segments() != of_left)
    desk.settle()
    assert desk.clicks() == ["+1"]
    desk.page.mouse.move(*to)
    desk.page.wait_for_timeout(300)
    desk.page.mouse.click(*to, button="right")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(0)
    desk.until(lambda: desk.segments() == [("Segment 1", 0.0)])


def test_a_chip_deletes_its_click_and_clear_deletes_all(desk, middle):
    for name in ("kidney_left", "spleen", "liver"):
        desk.click(middle(name))
        desk.settle()
    desk.page.locator(".ctsam3d-clicks .v-chip__close").nth(1).click()
    desk.page.wait_for_function("() => window.trame.state.get('clicks').length === 2")
    desk.settle()
    assert desk.clicks() == ["+1", "+2"]  # the chip of the last click has taken the place of the one deleted
    desk.page.get_by_role("button", name="Clear").click()
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(0)
    desk.settle()
    assert desk.segments() == [("Segment 1", 0.0)]


def test_segments_have_names_colours_terms_and_can_be_hidden(desk, middle):
    desk.click(middle("liver"))
    desk.settle()
    shown = desk.steady_picture("Axial")
    desk.page.keyboard.press("v")
    hidden = desk.steady_picture("Axial", other_than=shown)
    desk.page.get_by_role("button", name="Show or hide").click()
    desk.until(lambda: desk.picture("Axial") != hidden)
    name = desk.page.locator(".ctsam3d-segment input[type=text]")
    name.fill("my liver")
    name.press("Enter")
    expect(desk.page.get_by_role("button", name=re.compile("Undo"))).to_be_enabled()
    desk.page.locator(".ctsam3d-segment input[type=color]").fill("#112233")
    term = desk.page.get_by_label("Standard term")
    term.fill("Liver")
    desk.page.get_by_role("option", name="Liver", exact=True).click()
    expect(name).to_have_value("Liver")
    desk.page.keyboard.press("Escape")
    desk.page.get_by_role("button", name=re.compile("Undo")).click()
    expect(name).to_have_value("my liver")
    expect(desk.page.locator(".ctsam3d-segment input[type=color]")).to_have_value("#112233")


def test_a_segment_is_deleted_and_comes_back(desk, middle):
    desk.click(middle("liver"))
    desk.settle()
    before = desk.segments()
    desk.add_segment()
    desk.page.get_by_role("button", name="Delete the segment").first.click()
    desk.until(lambda: desk.segments() == [("Segment 2", 0.0)])
    desk.page.keyboard.press("u")
    desk.until(lambda: desk.segments() == [*before, ("Segment 2", 0.0)])
    desk.page.keyboard.press("1")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(1)


def test_windows_layouts_surfaces_and_help(desk, middle):
    soft, empty = desk.steady_picture("Axial"), desk.steady_picture("3D")
    desk.page.get_by_role("button", name="Lung").click()
    lung = desk.steady_picture("Axial", other_than=soft)
    desk.page.keyboard.press("w")
    desk.steady_picture("Axial", other_than=lung)
    desk.click(middle("liver"))
    desk.settle()
    with_surface = desk.steady_picture("3D", other_than=empty)
    desk.page.keyboard.press("s")
    desk.steady_picture("3D", other_than=with_surface)
    desk.page.locator(".v-app-bar .v-btn-group").last.locator("button").nth(1).click()

    def are_of_one_size() -> bool:
        boxes = [desk.view(name) for name in ("Axial", "Coronal", "Sagittal", "3D")]
        return all(boxes) and np.ptp([box["width"] for box in boxes]) < 5

    desk.until(are_of_one_size, timeout=20)
    desk.page.keyboard.press("?")
    expect(desk.page.locator(".ctsam3d-help")).to_contain_text("does not belong to it")


def test_the_sides_of_the_patient_are_where_radiologists_have_them(desk):
    def letters(view):
        container = desk.page.locator(f".ctsam3d-name.ctsam3d-{view}").locator(
            "xpath=ancestor::div[contains(@style, 'position')][1]"
        )
        return [container.locator(f".ctsam3d-{edge}").inner_text() for edge in ("left", "right", "top", "bottom")]

    assert letters("axial") == ["R", "L", "A", "P"]
    assert letters("coronal") == ["R", "L", "S", "I"]
    assert letters("sagittal") == ["A", "P", "S", "I"]
    # And so it is in the picture: from left to right the position grows to the left side, downwards to the back.
    box = desk.view("Axial")
    a, b = desk._read(box, 0.4, 0.4)[0], desk._read(box, 0.6, 0.6)[0]
    assert b[0] > a[0]
    assert b[1] > a[1]


def test_all_clicks_outside_ask_for_one_inside_and_are_kept(desk, middle):
    desk.click(middle("liver"), control=True)
    expect(desk.page.locator(".ctsam3d-problem")).to_contain_text("click inside the structure, too")
    desk.click(middle("spleen"))
    desk.settle()
    assert desk.clicks() == ["-1", "+2"]
    made = desk.segments()
    desk.page.locator(".ctsam3d-clicks .v-chip__close").nth(1).click()  # the mask follows its clicks
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(1)
    desk.settle()
    assert desk.segments() == [("Segment 1", 0.0)]
    desk.page.keyboard.press("u")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(2)
    assert desk.segments() == made


@contextmanager
def held_network(site):
    """The network of a site, stopped, so that no mask can come."""
    networks = [child for child in psutil.Process(site.process.pid).children(True) if "--local" in child.cmdline()]
    assert networks
    for network in networks:
        network.suspend()
    try:
        yield
    finally:
        for network in networks:
            network.resume()


def test_a_cancel_keeps_the_mask_and_redo_asks_again(site, desk, middle):
    desk.click(middle("kidney_left"))
    desk.settle()
    before = desk.segments()
    with held_network(site):
        desk.click(middle("liver"))
        desk.page.keyboard.press("c")
        expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(1)
    desk.settle()
    assert desk.segments() == before
    desk.page.keyboard.press("Shift+U")
    expect(desk.page.locator(".ctsam3d-clicks .v-chip")).to_have_count(2)
    desk.settle()
    assert desk.segments() != before
