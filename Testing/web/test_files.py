"""Files that are dropped on the page or taken from it, right and wrong ones, over HTTP as the page sends them."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import requests
import SimpleITK as sitk
from playwright.sync_api import expect

from CTSAM3DLib.clicks import read_markups
from CTSAM3DLib.volume import Volume
from Testing.web.site import Site


@pytest.fixture(scope="module")
def empty_site(tmp_path_factory):
    """A site whose pages begin without a CT."""
    running = Site(log=tmp_path_factory.mktemp("empty") / "log")
    yield running
    running.stop()


@pytest.fixture
def empty_desk(empty_site, new_desk):
    desk = new_desk(empty_site.address)
    expect(desk.page.get_by_text("Try the sample CT")).to_be_visible(timeout=60_000)
    return desk


def choose(desk, button, files):
    with desk.page.expect_file_chooser() as chooser:
        desk.page.get_by_role("button", name=button).click()
    chooser.value.set_files(files)


def write_dicom(volume, folder):
    """The CT as a DICOM series, as SimpleITK's example has it."""
    folder.mkdir(parents=True)
    image = sitk.GetImageFromArray(volume.array.astype(np.int16))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    series = "1.2.826.0.1.3680043.2.1125.1"
    for k in range(image.GetDepth()):
        one = image[:, :, k]
        z = volume.geometry.to_lps((0, 0, k))
        for tag, value in {
            "0008|0060": "CT",
            "0020|000e": series,
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0008|0018": f"{series}.{k + 1}",
            "0020|0032": "\\".join(f"{mm:.6f}" for mm in z),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(k + 1),
            "0018|0050": str(volume.geometry.spacing[2]),
        }.items():
            one.SetMetaData(tag, value)
        one.SetSpacing(volume.geometry.spacing[:2])
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(one)


@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "mha", "dicom zip"])
def test_a_ct_is_opened_from_a_file(empty_desk, torso, tmp_path, kind):
    if kind == "dicom zip":
        write_dicom(torso.ct, tmp_path / "series" / "inside")
        path = shutil.make_archive(str(tmp_path / "scan"), "zip", tmp_path / "series")
    else:
        path = str(tmp_path / f"scan.{kind}")
        torso.ct.write(path)
    choose(empty_desk, "Open a file", path)
    empty_desk.wait_for_ct()
    size = " by ".join(str(n) for n in torso.ct.geometry.shape[::-1])
    expect(empty_desk.page.locator(".ctsam3d-panel")).to_contain_text(f"{size} voxels of 3, 3, 3 mm")


def test_a_dicom_folder_is_opened(empty_desk, torso, tmp_path):
    write_dicom(torso.ct, tmp_path / "series")
    choose(empty_desk, "Open a DICOM folder", str(tmp_path / "series"))
    empty_desk.wait_for_ct()
    expect(empty_desk.page.locator(".ctsam3d-panel")).to_contain_text("voxels of 3, 3, 3 mm")


def test_a_file_is_dropped_on_the_page(empty_desk, ct_file):
    content = list(ct_file.read_bytes())
    empty_desk.page.evaluate(
        """([content, name]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], name));
            for (const kind of ["dragenter", "dragover", "drop"])
                window.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [content, "dropped.nii.gz"],
    )
    empty_desk.wait_for_ct()
    expect(empty_desk.page.locator(".ctsam3d-ct")).to_have_text("dropped")


def wrong_files(tmp_path, torso):
    geometry = torso.ct.geometry
    return {
        "text": (b"not an image", "notes.nii.gz", "notes.nii.gz is damaged or incomplete"),
        "empty zip": (None, "empty.zip", "no file in what was dropped"),
        "broken zip": (b"PK\x03\x04 broken", "broken.zip", "is not a zip that can be read"),
        "not a CT": (Volume(np.abs(torso.ct.array), geometry), "mr.nii.gz", "give a CT in Hounsfield units"),
        "something": (b"hello", "hello.txt", "hello.txt is in an unknown format"),
    }


@pytest.mark.parametrize("kind", ["text", "empty zip", "broken zip", "not a CT", "something"])
def test_a_wrong_file_is_one_sentence_and_the_page_goes_on(empty_desk, torso, ct_file, tmp_path, kind):
    content, name, sentence = wrong_files(tmp_path, torso)[kind]
    path = tmp_path / name
    if isinstance(content, Volume):
        content.write(path)
    elif content is None:
        zipfile.ZipFile(path, "w").close()
    else:
        path.write_bytes(content)
    choose(empty_desk, "Open a file", str(path))
    expect(empty_desk.page.locator(".ctsam3d-problem")).to_contain_text(sentence, timeout=20_000)
    choose(empty_desk, "Open a file", str(ct_file))
    empty_desk.wait_for_ct()
    expect(empty_desk.page.locator(".ctsam3d-problem")).to_have_count(0)


def client_of(desk):
    """What the page's own requests are made with, and where to."""
    session = requests.Session()
    for cookie in desk.page.context.cookies():
        session.cookies.set(cookie["name"], cookie["value"])
    return session, desk.page.url.split("index.html")[0]


def test_files_stay_in_their_workspace(empty_desk):
    session, page = client_of(empty_desk)
    answer = session.post(page + "files", files={"file": ("..%2F..%2Fescaped.nii.gz", b"x")}, timeout=30)
    assert answer.status_code == 422
    assert "cannot be the name of a file" in answer.text


def test_a_zip_with_a_way_out_is_refused(empty_desk, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../escaped.nii.gz", b"x")
    session, page = client_of(empty_desk)
    answer = session.post(page + "files", files={"file": (tmp_path / "evil.zip").open("rb")}, timeout=30)
    assert answer.status_code == 422
    assert "cannot be the name of a file" in answer.text


def test_there_is_nothing_to_save_without_a_ct_and_an_unknown_kind_is_refused(empty_desk, desk):
    session, page = client_of(empty_desk)
    assert "open a CT first" in session.get(page + "download/seg.nrrd", timeout=30).text
    session, page = client_of(desk)
    answer = session.get(page + "download/exe", timeout=30)
    assert answer.status_code == 422
    assert "choose one of" in answer.text


def test_what_is_saved_is_read_back(desk, torso, middle, tmp_path):
    desk.click(middle("liver"))
    desk.settle()
    desk.click(middle("stomach"), control=True)
    desk.settle()
    desk.add_segment()
    desk.click(middle("kidney_left"))
    desk.settle()
    session, page = client_of(desk)
    for kind in ("nii.gz", "mrk.json"):
        answer = session.get(f"{page}download/{kind}", timeout=60)
        (tmp_path / f"saved.{kind}").write_bytes(answer.content)
    labels = Volume.read(tmp_path / "saved.nii.gz")
    assert labels.geometry.is_close(torso.ct.geometry)
    assert sorted(np.unique(labels.array)) == [0, 1, 2]
    clicks = read_markups(tmp_path / "saved.mrk.json")
    assert [click.positive for click in clicks] == [True, False, True]
    assert np.linalg.norm(np.subtract(clicks[0].position, middle("liver"))) < 6
    points = json.loads((tmp_path / "saved.mrk.json").read_text())["markups"][0]["controlPoints"]
    assert [point["label"] for point in points] == ["Segment 1", "-Segment 1", "Segment 2"]
