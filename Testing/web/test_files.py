"""Files that are dropped on the page or taken from it, right and wrong ones, over HTTP as the page sends them."""

import io
import json
import re
import shutil
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk
from playwright.sync_api import expect

from CTSAM3DLib.clicks.markups import read_markups
from CTSAM3DLib.imaging.resampling import as_image
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DServer.web.page.file_menu import Files
from Testing.support.dicom_files import write_series
from Testing.web.site import Site


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder in which the pages of `empty_site` hold what they have."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def empty_site(tmp_path_factory, kept):
    """A site whose pages begin without a CT."""
    running = Site("--keep", str(kept), log=tmp_path_factory.mktemp("empty") / "log")
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


def test_of_several_series_one_is_chosen(empty_desk, tmp_path, kept):
    low = np.full((20, 64, 64), -900, np.int16)
    low[:, 16:48, 16:48] = 40
    write_series(tmp_path / "study" / "a", low, SeriesNumber=2, SeriesDescription="thorax")
    write_series(tmp_path / "study" / "b", low[:12] + 5, SeriesNumber=3, SeriesDescription="abdomen venous")
    choose(empty_desk, "Open a DICOM folder", str(tmp_path / "study"))
    dialog = empty_desk.page.locator(".ctsam3d-series")
    expect(dialog).to_be_visible(timeout=30_000)
    expect(dialog.locator(".v-list-item")).to_have_count(2)
    expect(dialog).to_contain_text("12 slices of 64x64")
    width = dialog.locator("img").nth(1).evaluate("image => image.naturalWidth")
    assert width == 64
    dialog.get_by_text("abdomen venous").click()
    empty_desk.wait_for_ct()
    expect(empty_desk.page.locator(".ctsam3d-panel")).to_contain_text("64 by 64 by 12 voxels")
    assert len({path.parts[0] for path in uploads(empty_desk.page.url, kept)}) == 1


def test_no_series_is_chosen(empty_desk, tmp_path, kept):
    for name in ("a", "b"):
        write_series(tmp_path / "study" / name, np.tile(np.int16([-900, 40]), (12, 16, 8)), SeriesDescription=name)
    choose(empty_desk, "Open a DICOM folder", str(tmp_path / "study"))
    empty_desk.page.locator(".ctsam3d-series").get_by_role("button", name="Cancel").click(timeout=30_000)
    expect(empty_desk.page.locator(".ctsam3d-series")).to_have_count(0)
    expect(empty_desk.page.get_by_text("Try the sample CT")).to_be_visible()
    assert wait_until(lambda: uploads(empty_desk.page.url, kept) == [])


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


HEADER = """ObjectType = Image
NDims = 3
DimSize = 8 8 2
ElementType = MET_SHORT
ElementDataFile = {}
"""


def wrong_files(tmp_path, torso):
    geometry = torso.ct.geometry
    (tmp_path / "secret").write_bytes(np.arange(-64, 64, dtype="<i2").tobytes() * 20)
    return {
        "text": (b"not an image", "notes.nii.gz", "notes.nii.gz is damaged or incomplete"),
        "empty zip": (None, "empty.zip", "empty holds no file"),
        "broken zip": (b"PK\x03\x04 broken", "broken.zip", "is not a zip that can be read"),
        "not a CT": (Volume(np.abs(torso.ct.array), geometry), "mr.nii.gz", "give a CT in Hounsfield units"),
        "header": (HEADER.format(tmp_path / "secret").encode(), "ct.mhd", "which is no file that came with it"),
        "other": (b"# vtk DataFile Version 3.0\n", "ct.vtk", "ct.vtk is in an unknown format"),
        "something": (b"hello", "hello.txt", "hello.txt is in an unknown format"),
    }


@pytest.mark.parametrize("kind", ["text", "empty zip", "broken zip", "not a CT", "header", "other", "something"])
def test_a_wrong_file_is_one_sentence_and_the_page_goes_on(empty_desk, torso, ct_file, tmp_path, kept, kind):
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
    assert wait_until(lambda: uploads(empty_desk.page.url, kept) == [])
    choose(empty_desk, "Open a file", str(ct_file))
    empty_desk.wait_for_ct()
    expect(empty_desk.page.locator(".ctsam3d-problem")).to_have_count(0)


def uploads(page, kept):
    """What the workspace of a page holds of uploads."""
    workspace = re.search("/w/([0-9a-f]+)/", page)[1]
    return sorted(path.relative_to(kept) for path in (kept / workspace / "uploads").rglob("*"))


def opened(page, kept):
    """Which CT the workspace of a page has open, by what it has saved."""
    saved = kept / re.search("/w/([0-9a-f]+)/", page)[1] / "workspace.json"
    return json.loads(saved.read_text())["name"] if saved.exists() else None


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def client_of(desk):
    """What the page's own requests are made with, and where to."""
    session = requests.Session()
    for cookie in desk.page.context.cookies():
        session.cookies.set(cookie["name"], cookie["value"])
    return session, desk.page.url.split("index.html")[0]


@pytest.fixture
def visit(empty_site):
    """Requests as those of a page that was just opened, without a browser, and where they go."""
    session = requests.Session()
    return session, session.get(empty_site.address, timeout=90).url.split("index.html")[0]


def send(visit, *paths_or_named):
    """Upload files as the page does."""
    session, page = visit
    files = [("file", (one.name, one.read_bytes()) if isinstance(one, Path) else one) for one in paths_or_named]
    return session.post(page + "files", files=files, timeout=60)


def test_files_stay_in_their_workspace(visit, kept):
    answer = send(visit, ("..%2F..%2Fescaped.nii.gz", b"x"))
    assert answer.status_code == 422
    assert "cannot be the name of a file" in answer.text
    assert uploads(visit[1], kept) == []


def zip_of(name, content=b"x", method=zipfile.ZIP_STORED, mode=0):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        entry = zipfile.ZipInfo(name)
        entry.compress_type, entry.external_attr = method, mode << 16
        archive.writestr(entry, content)
    return packed.getvalue()


def damaged_zip(method):
    content = bytearray(zip_of("ct.nii", bytes(range(256)) * 4000, method))
    content[41:96] = b"\xff" * 55  # the beginning of the packed voxels
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zip_of("../../escaped.nii.gz"), "cannot be the name of a file"),
        (zip_of("ct.nii", b"../../../secret.nii", mode=0o120777), "holds a link, 'ct.nii'; pack the file itself"),
        (damaged_zip(zipfile.ZIP_DEFLATED), "not a zip that can be read"),
        (damaged_zip(zipfile.ZIP_LZMA), "not a zip that can be read"),
        (damaged_zip(zipfile.ZIP_BZIP2), "cannot be unpacked"),
    ],
    ids=["way out", "link", "deflate", "lzma", "bzip2"],
)
def test_a_wrong_zip_is_refused_and_leaves_nothing(visit, kept, content, said):
    answer = send(visit, ("scan.zip", content))
    assert answer.status_code == 422
    assert said in answer.text
    assert uploads(visit[1], kept) == []


def test_what_is_no_form_is_refused(visit):
    session, page = visit
    answer = session.post(page + "files", data=b"abc", timeout=30)
    assert answer.status_code == 422
    assert "no form with files" in answer.text


def test_a_header_that_names_a_file_elsewhere_opens_nothing_and_leaves_the_open_ct(visit, ct_file, kept, tmp_path):
    (tmp_path / "secret").write_bytes(np.arange(-1024, 1024, dtype="<i2").tobytes())
    header = HEADER.format(tmp_path / "secret").encode()
    own = np.full(64, -1000, "<i2").tobytes()
    attacks = [
        [("ct.mhd", header)],
        [("a.mhd", HEADER.format(f"LIST\nown.raw\n{tmp_path / 'secret'}").encode()), ("own.raw", own)],
        [("scan.zip", zip_of("inside/ct.mhd", header))],
    ]
    for files in attacks:
        send(visit, *files)
        assert opened(visit[1], kept) is None
        assert uploads(visit[1], kept) == []
    send(visit, ct_file)
    assert wait_until(lambda: opened(visit[1], kept) == "torso")
    before = uploads(visit[1], kept)
    for files in attacks:
        send(visit, *files)
        assert opened(visit[1], kept) == "torso"
        assert uploads(visit[1], kept) == before


@pytest.mark.parametrize("name", ["scan.mhd", "scan.nhdr"])
def test_a_header_with_its_voxels_is_opened(visit, torso, tmp_path, kept, name):
    sitk.WriteImage(as_image(torso.ct.array, torso.ct.geometry), str(tmp_path / name))
    send(visit, *sorted(tmp_path.iterdir()))
    assert wait_until(lambda: opened(visit[1], kept) == "scan")


def test_an_upload_after_a_restart_does_not_touch_the_open_ct(visit, ct_file, kept):
    send(visit, ct_file)
    assert wait_until(lambda: opened(visit[1], kept) == "torso")
    folder, *_ = (kept / path for path in uploads(visit[1], kept))
    after_a_restart = Files(types.SimpleNamespace(uploads=folder.parent))
    assert after_a_restart._new_folder() not in (folder, None)
    assert after_a_restart._new_folder().parent == folder.parent


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
    assert {name: [click.positive for click in of] for name, of in clicks.items()} == {
        "Segment 1": [True, False],
        "Segment 2": [True],
    }
    assert np.linalg.norm(np.subtract(clicks["Segment 1"][0].position, middle("liver"))) < 6
    points = json.loads((tmp_path / "saved.mrk.json").read_text())["markups"][0]["controlPoints"]
    assert [point["label"] for point in points] == ["Segment 1", "-Segment 1", "Segment 2"]
