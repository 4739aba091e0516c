"""Parts of the page that need no browser."""

import zipfile

import pytest

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError, VolumeError
from CTSAM3DLib.imaging import archive
from CTSAM3DLib.imaging.archive import safe_path
from CTSAM3DLib.interaction.backends import THIS_COMPUTER, KnownServer, LocalBackend, ServerBackend
from CTSAM3DServer.web.scene.persistence import SavedSegment, SavedWorkspace
from CTSAM3DServer.web.scene.terminology import anatomy
from CTSAM3DServer.web.scene.upload import find_ct
from CTSAM3DServer.web.workspace.backends import Backends, Front


@pytest.mark.parametrize("name", ["", "/", "..", "a/../../b", "C:/windows", "..\\up", "nul\0byte"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    if name == "/":
        with pytest.raises(VolumeError):
            safe_path(tmp_path, name)
        return
    with pytest.raises(VolumeError, match="cannot be the name of a file"):
        safe_path(tmp_path, name)


@pytest.mark.parametrize("name", ["a.nii.gz", "series/1/2.dcm", "/absolute/becomes/relative.dcm", "back\\slash.dcm"])
def test_other_names_stay_below_it(tmp_path, name):
    assert tmp_path in safe_path(tmp_path, name).parents


def test_several_files_are_looked_for_in_the_folder_that_all_are_in(tmp_path):
    assert find_ct([tmp_path / "s" / "1" / "a", tmp_path / "s" / "2" / "b"]) == tmp_path / "s"
    assert find_ct([tmp_path / "ct.zip"]) == tmp_path / "ct.zip"


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("ct.nii", b"0" * 100_000)
    with pytest.raises(VolumeError, match="unpacks to more than"):
        archive.unpack(tmp_path / "bomb.zip", tmp_path / "bomb")
    assert not (tmp_path / "bomb").exists()


def test_a_workspace_is_read_as_it_was_saved(tmp_path):
    clicks = [Click((1.0, 2.0, 3.0)).to_dict(), Click((4.0, 5.0, 6.0), positive=False).to_dict()]
    segment = SavedSegment(name="liver", color=(1, 0, 0.5), terminology="", visible=False, clicks=clicks)
    saved = SavedWorkspace(
        ct="ct.nii.gz", name="ct", reach="patch", backend=THIS_COMPUTER, model="m", segments=[segment], selected=0
    )
    saved.write(tmp_path)
    assert SavedWorkspace.read(tmp_path) == saved


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ct": 1}'])
def test_what_is_no_workspace_is_none(tmp_path, text):
    (tmp_path / "workspace.json").write_text(text)
    assert SavedWorkspace.read(tmp_path) is None


def test_terms_are_slicers_with_sides_and_colours():
    terms = anatomy()
    assert len(terms) > 200
    assert {"Liver", "Kidney, left", "Kidney, right", "Aorta"} <= terms.keys()
    assert "SCT^10200004^Liver" in terms["Liver"].terminology
    assert "SCT^7771000^Left" in terms["Kidney, left"].terminology
    assert all(0 <= value <= 1 for term in terms.values() for value in term.color)


def test_nothing_goes_to_a_server_before_the_user_agrees():
    backends = Backends(Front("http://127.0.0.1:1", "s", ("m",)), [KnownServer("https://gpu:8900")])
    assert backends.choice(THIS_COMPUTER, "m") == LocalBackend("m", Front("", ""))
    with pytest.raises(CTSAM3DError, match="Nothing is sent to https://gpu:8900 before you agree"):
        backends.choice("https://gpu:8900", "m")


def test_equal_choices_are_the_same_backend_and_keys_are_not_shown():
    assert ServerBackend("https://a", "m", "key") == ServerBackend("https://a", "m", "key")
    assert "secret" not in repr(ServerBackend("https://a", "m", "secret"))
