"""Volumes: geometry, reading and writing every format, and every sentence a user can meet."""

import errno
import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio

from CTSAM3DLib.errors import OutputError, VolumeError
from CTSAM3DLib.imaging.geometry import filled_box
from CTSAM3DLib.imaging.resampling import as_image
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.output.seg_nrrd import Segment, write_segmentation
from Testing.support.data import DATA, needs_data

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
SHEAR = np.array([[0.7, 0.0, 0.9], [0.0, -0.8, 0.1], [0.0, 0.0, 2.5]])


def make_ct(shape=(6, 8, 9), direction=OBLIQUE, dtype=np.int16) -> Volume:
    voxels = np.random.default_rng(1).integers(-1000, 1500, shape).astype(dtype)
    return Volume(voxels, Geometry(shape, (10.0, -20.0, 30.5), (0.7, 0.8, 2.5), direction))


def make_sheared() -> Volume:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = SHEAR, (10, -20, 30.5)
    volume = make_ct()
    return Volume(volume.array, Geometry.from_matrix(volume.array.shape, matrix))


def set_nifti_codes(path: Path, qform: int, sform: int, ijk_to_lps=None) -> None:
    raw = bytearray(path.read_bytes())
    struct.pack_into("<2h", raw, 252, qform, sform)
    if ijk_to_lps is not None:
        struct.pack_into("<12f", raw, 280, *(np.diag([-1, -1, 1, 1]) @ ijk_to_lps)[:3].ravel())
    path.write_bytes(raw)


class TestGeometry:
    @pytest.mark.parametrize("volume", [make_ct(), make_sheared()], ids=["oblique", "sheared"])
    def test_agrees_with_simpleitk(self, volume):
        image = sitk.Image([9, 8, 6], sitk.sitkInt16)
        geometry = volume.geometry
        image.SetOrigin(geometry.origin)
        image.SetSpacing(geometry.spacing)
        image.SetDirection(geometry.direction)
        ijk = (3.5, 1.25, 4.0)
        lps = image.TransformContinuousIndexToPhysicalPoint(ijk)
        assert geometry.to_lps([ijk]) == pytest.approx(np.array([lps]))
        assert geometry.to_ijk([lps]) == pytest.approx(np.array([ijk]))
        assert geometry.ijk_to_lps @ [*ijk, 1] == pytest.approx([*lps, 1])
        assert Geometry.of_image(image) == geometry

    def test_contains_half_a_voxel_more_than_the_outer_centres(self):
        geometry = make_sheared().geometry
        assert geometry.contains(geometry.to_lps((-0.49, 7.49, 5.49)))
        assert not geometry.contains(geometry.to_lps((-0.51, 3, 3)))
        assert not geometry.contains(geometry.to_lps((3, 3, 5.51)))

    def test_box_and_crop_keep_voxels_in_place(self):
        geometry = make_ct().geometry
        box = geometry.box_around(geometry.to_lps([(1.5, 2, -3), (4.2, 3.5, 2)]))
        assert box == (slice(0, 3), slice(2, 5), slice(1, 6))
        assert geometry.crop(box).to_lps((0, 0, 0)) == pytest.approx(geometry.to_lps((1, 2, 0)))
        nowhere = geometry.box_around(geometry.to_lps([(20, 20, 20)]))
        assert all(axis.start == axis.stop for axis in nowhere)

    def test_denormal_numbers_do_not_mislead_itk(self):
        direction = (-1, -2e-311, 0, 0, 0, 1, 0, 1, 0)
        image = as_image(make_ct().array, make_ct(direction=direction).geometry)
        lps = make_ct(direction=direction).geometry.to_lps((3, 4, 5))
        assert image.TransformPhysicalPointToIndex(lps) == (3, 4, 5)

    def test_is_close_asks_every_voxel(self):
        ours = make_ct((6, 8, 200)).geometry
        wider = Geometry(ours.shape, ours.origin, (0.7001, 0.8, 2.5), ours.direction)
        assert ours.is_close(wider, 0.03)
        assert not ours.is_close(wider, 0.01)
        assert not ours.is_close(make_ct((6, 8, 9)).geometry, 1e9)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"origin": (0, 0, float("nan"))}, "not finite"),
            ({"spacing": (1, 0, 1)}, "not positive"),
            ({"direction": (1, 0, 0, 1, 0, 0, 0, 0, 1)}, "singular"),
            ({"shape": (0, 2, 2)}, "no voxels"),
            ({"shape": (2, 2)}, "not three-dimensional"),
        ],
    )
    def test_refuses_what_is_no_grid(self, change, said):
        good = {"shape": (2, 2, 2), "origin": (0, 0, 0), "spacing": (1, 1, 1), "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}
        with pytest.raises(VolumeError, match=said):
            Geometry(**{**good, **change})


class TestFiles:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
    @pytest.mark.parametrize("volume", [make_ct(), make_sheared()], ids=["oblique", "sheared"])
    def test_comes_back_as_it_was(self, tmp_path, ending, volume):
        volume.write(tmp_path / f"ct{ending}")
        again = Volume.read(tmp_path / f"ct{ending}")
        assert again.array.dtype == np.int16
        assert again.name == "ct"
        np.testing.assert_array_equal(again.array, volume.array)
        assert again.geometry.is_close(volume.geometry, 1e-4)
        assert os.listdir(tmp_path) == [f"ct{ending}"]

    def test_sheared_nrrd_by_another_writer(self, tmp_path):
        header = {"space": "left-posterior-superior", "space directions": SHEAR.T, "space origin": [10, -20, 30.5]}
        nrrd.write(str(tmp_path / "ct.nrrd"), make_sheared().array.transpose(2, 1, 0), header)
        assert Volume.read(tmp_path / "ct.nrrd").geometry.is_close(make_sheared().geometry, 1e-6)

    @pytest.mark.parametrize(("qform", "sform"), [(0, 1), (0, 2), (1, 1), (2, 1)])
    def test_sheared_sform_is_exact_even_where_a_qform_contradicts(self, tmp_path, qform, sform):
        make_ct().write(tmp_path / "ct.nii")
        set_nifti_codes(tmp_path / "ct.nii", qform, sform, make_sheared().geometry.ijk_to_lps)
        assert Volume.read(tmp_path / "ct.nii").geometry.is_close(make_sheared().geometry, 1e-4)

    @pytest.mark.parametrize("qform", range(3))
    @pytest.mark.parametrize("sform", range(3))
    def test_ordinary_nifti_lies_where_itk_puts_it(self, tmp_path, qform, sform):
        make_ct().write(tmp_path / "ct.nii")
        elsewhere = Geometry((6, 8, 9), (1.0, 2.0, 3.0), (0.7, 0.8, 2.5), (0.28, 0.96, 0, -0.96, 0.28, 0, 0, 0, 1))
        set_nifti_codes(tmp_path / "ct.nii", qform, sform, elsewhere.ijk_to_lps)
        assert Volume.read(tmp_path / "ct.nii").geometry == Geometry.of_image(sitk.ReadImage(tmp_path / "ct.nii"))

    def test_reading_a_sheared_file_leaves_itk_as_strict_as_it_was(self, tmp_path):
        make_sheared().write(tmp_path / "ct.nii")
        Volume.read(tmp_path / "ct.nii")
        assert "ITK_NIFTI_SFORM_PERMISSIVE" not in os.environ
        assert sitk.ProcessObject.GetGlobalWarningDisplay()

    def test_voxels_outlive_the_image_they_were_read_with(self, tmp_path):
        ct = make_ct((20, 64, 64))
        ct.write(tmp_path / "ct.nii")
        plane = Volume.read(tmp_path / "ct.nii").array[3]
        clutter = [sitk.Image([64, 64, 20], sitk.sitkInt16) for _ in range(20)]
        np.testing.assert_array_equal(plane, ct.array[3])
        assert len(clutter) == 20

    @pytest.mark.parametrize(
        ("stored", "read"),
        [("float64", "float32"), ("float32", "float32"), ("int32", "int16"), ("uint16", "int16"), ("uint8", "uint8")],
    )
    def test_voxel_types(self, tmp_path, stored, read):
        volume = Volume(np.abs(make_ct().array % 200).astype(stored), make_ct().geometry)
        volume.write(tmp_path / "ct.nrrd")
        again = Volume.read(tmp_path / "ct.nrrd")
        assert again.array.dtype == read
        np.testing.assert_array_equal(again.array, volume.array)

    def test_single_volume_in_a_4d_file_and_scaled_voxels(self, tmp_path):
        ct = make_ct(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
        image = sitk.JoinSeries([sitk.GetImageFromArray(ct.array)])
        image.SetSpacing((0.7, 0.8, 2.5, 1))
        sitk.WriteImage(image, tmp_path / "one.nii")
        raw = bytearray((tmp_path / "one.nii").read_bytes())
        struct.pack_into("<2f", raw, 112, 1.0, -1024.0)
        (tmp_path / "one.nii").write_bytes(raw)
        again = Volume.read(tmp_path / "one.nii")
        assert again.array.dtype == np.int16  # whole numbers stay whole numbers
        np.testing.assert_array_equal(again.array, ct.array - 1024)
        assert again.geometry.spacing == pytest.approx((0.7, 0.8, 2.5))
        struct.pack_into("<2f", raw, 112, 0.5, -1024.0)
        (tmp_path / "one.nii").write_bytes(raw)
        np.testing.assert_array_equal(Volume.read(tmp_path / "one.nii").array, ct.array.astype(np.float32) / 2 - 1024)

    @needs_data("ct/vertebra-pir.nii.gz", "ct/abdomen-crlm-1004.nii.gz")
    @pytest.mark.parametrize("case", ["vertebra-pir", "abdomen-crlm-1004"])
    def test_real_ct_reads_as_itk_reads_it(self, case):
        path = DATA / "ct" / f"{case}.nii.gz"
        volume, image = Volume.read(path), sitk.ReadImage(path)
        assert volume.geometry == Geometry.of_image(image)
        np.testing.assert_array_equal(volume.array, sitk.GetArrayViewFromImage(image))
        volume.check_ct()


class TestUnreadable:
    def test_missing(self, tmp_path):
        with pytest.raises(VolumeError, match="does not exist"):
            Volume.read(tmp_path / "ct.nii.gz")

    def test_no_permission(self, tmp_path, monkeypatch):
        make_ct().write(tmp_path / "ct.nrrd")
        monkeypatch.setattr(os, "access", lambda *_: False)  # an administrator may read everything
        with pytest.raises(VolumeError, match="ask for the permission"):
            Volume.read(tmp_path / "ct.nrrd")

    @pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.nrrd", "ct.mha"])
    @pytest.mark.parametrize("kept", [0, 200, 0.6], ids=["empty", "headless", "cut short"])
    def test_damaged(self, tmp_path, name, kept):
        make_ct((12, 40, 40)).write(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(kept if kept != 0.6 else 0.6 * len(whole))])
        with pytest.raises(VolumeError, match="damaged or incomplete" if kept else "is empty"):
            Volume.read(tmp_path / name)

    def test_gzip_of_several_members_is_whole(self, tmp_path):
        ct = make_ct((12, 40, 40))
        ct.write(tmp_path / "ct.nii")
        raw = (tmp_path / "ct.nii").read_bytes()
        (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(raw[:9000]) + gzip.compress(raw[9000:]))
        np.testing.assert_array_equal(Volume.read(tmp_path / "ct.nii.gz").array, ct.array)

    def test_unknown_format(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no image")
        with pytest.raises(VolumeError, match="unknown format"):
            Volume.read(tmp_path / "notes.txt")

    @pytest.mark.parametrize(
        ("shape", "is_vector", "said"),
        [((8, 9), False, "a 2D image"), ((3, 6, 8, 9), False, "holds 3 volumes"), ((6, 8, 9, 3), True, "3 values per")],
    )
    def test_not_one_grey_volume(self, tmp_path, shape, is_vector, said):
        image = sitk.GetImageFromArray(np.zeros(shape, np.int16), isVector=is_vector)
        sitk.WriteImage(image, tmp_path / "ct.nrrd" if is_vector else tmp_path / "ct.nii.gz")
        with pytest.raises(VolumeError, match=said):
            Volume.read(next(tmp_path.iterdir()))


class TestCheckCt:
    @pytest.mark.parametrize(
        ("voxels", "said"),
        [
            (np.full((4, 4, 4), np.nan, np.float32), "not finite"),
            (np.array([-1000, 50, 100, np.inf], np.float32).reshape(1, 2, 2).repeat(2, axis=0), "not finite"),
            (np.arange(64, dtype=np.int16).reshape(4, 4, 4) * 30, "no value below 0"),
            (np.full((4, 4, 4), -1000, np.int16), "nearly constant"),
            (np.linspace(-1, 1, 64).reshape(4, 4, 4), "nearly constant"),
            (np.linspace(-1000, 70000, 64).reshape(4, 4, 4), "beyond any CT"),
            (np.arange(-500, 500, 10, dtype=np.int16).reshape(1, 10, 10), "only one slice"),
        ],
    )
    def test_says_why_it_is_not_a_ct(self, voxels, said):
        volume = Volume(voxels, Geometry(voxels.shape, (0, 0, 0), (1, 1, 1), OBLIQUE))
        with pytest.raises(VolumeError, match=said) as raised:
            volume.check_ct()
        assert str(raised.value).endswith(".")

    def test_accepts_a_ct_with_padding(self):
        ct = make_ct()
        Volume(np.where(ct.array < -900, -3024, ct.array), ct.geometry).check_ct()


class TestVolume:
    def test_must_fit_its_geometry(self):
        with pytest.raises(VolumeError, match="shape"):
            Volume(np.zeros((6, 8, 8), np.int16), make_ct().geometry)
        with pytest.raises(VolumeError, match="complex"):
            Volume(np.zeros((6, 8, 9), complex), make_ct().geometry)

    def test_takes_masks_and_foreign_byte_orders(self):
        ct = make_ct()
        assert Volume(ct.array > 0, ct.geometry).array.dtype == np.uint8
        swapped = Volume(ct.array.astype(">i2"), ct.geometry)
        assert swapped.array.dtype == np.int16
        assert swapped.content_hash == ct.content_hash

    def test_does_not_copy(self):
        ct = make_ct()
        assert np.shares_memory(Volume(ct.array, ct.geometry).array, ct.array)

    def test_hash_is_of_voxels_and_geometry(self):
        ct = make_ct()
        moved = Geometry(ct.geometry.shape, (10, -20, 31), ct.geometry.spacing, ct.geometry.direction)
        changed = ct.array.copy()
        changed[-1, -1, -1] += 1
        others = [Volume(ct.array, moved), Volume(changed, ct.geometry), Volume(ct.array.astype("f4"), ct.geometry)]
        assert len({ct.content_hash, *(other.content_hash for other in others)}) == 4
        assert ct.content_hash == Volume(np.asfortranarray(ct.array), ct.geometry, "name").content_hash


class TestWriting:
    def test_unknown_ending_and_missing_folder(self, tmp_path):
        with pytest.raises(OutputError, match=r"unknown ending; choose one of \.nii\.gz"):
            make_ct().write(tmp_path / "ct.jpeg")
        with pytest.raises(OutputError, match="does not exist"):
            make_ct().write(tmp_path / "nowhere" / "ct.nii.gz")

    def test_a_folder_in_the_way(self, tmp_path):
        (tmp_path / "ct.nii.gz").mkdir()
        with pytest.raises(OutputError, match="a folder of this name"):
            make_ct().write(tmp_path / "ct.nii.gz")

    @pytest.mark.parametrize(
        ("number", "said"),
        [(errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission"), (errno.EIO, "Input/output")],
    )
    def test_the_system_refuses_and_the_old_file_stays(self, tmp_path, monkeypatch, number, said):
        make_ct().write(tmp_path / "ct.nrrd")
        before = (tmp_path / "ct.nrrd").read_bytes()

        def refuse(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(OutputError, match=said):
            make_ct(dtype=np.float32).write(tmp_path / "ct.nrrd")
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]

    @pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
    @pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.nrrd", "ct.mha", "ct.seg.nrrd"])
    def test_a_full_disk_leaves_nothing_behind(self, tmp_path, name):
        script = f"""
import resource, signal
import numpy as np
from CTSAM3DLib.errors import OutputError
from CTSAM3DLib.output.seg_nrrd import write_segmentation
from CTSAM3DLib.imaging.geometry import filled_box
from CTSAM3DLib.imaging.volume import Geometry, Volume
shape = (20, 30, 40)
voxels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
volume = Volume(voxels, Geometry(shape, (0, 0, 0), (1, 1, 1), (1, 0, 0, 0, 1, 0, 0, 0, 1)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    write_segmentation(volume, {str(tmp_path / name)!r}, [])
except OutputError as error:
    assert "disk is full" in str(error), error
else:
    raise SystemExit("written")
"""
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        assert not list(tmp_path.iterdir())


class TestSegmentation:
    @pytest.mark.parametrize("volume", [make_ct(), make_sheared()], ids=["oblique", "sheared"])
    def test_opens_again_with_everything(self, tmp_path, volume):
        mask = Volume((volume.array > 0).astype(np.uint8) + (volume.array > 1000), volume.geometry)
        segments = [
            Segment("liver", 1, (0.9, 0.5, 0.25), {"CTSAM3D.Clicks": '[{"position":[1,2,3],"positive":true}]'}),
            Segment("bone", 2, (1.0, 1.0, 0.5)),
        ]
        write_segmentation(mask, tmp_path / "mask.seg.nrrd", segments, {"CTSAM3D.Model": "ctsam3d-small 0123abcd"})
        again = slicerio.read_segmentation(str(tmp_path / "mask.seg.nrrd"))
        np.testing.assert_array_equal(again["voxels"].transpose(2, 1, 0), mask.array)
        assert again["ijkToLPS"] == pytest.approx(mask.geometry.ijk_to_lps)
        assert again["CTSAM3D.Model"] == "ctsam3d-small 0123abcd"
        assert [(s["name"], s["labelValue"]) for s in again["segments"]] == [("liver", 1), ("bone", 2)]
        assert again["segments"][0]["color"] == [0.9, 0.5, 0.25]
        assert again["segments"][0]["tags"] == segments[0].tags
        assert Volume.read(tmp_path / "mask.seg.nrrd").geometry.is_close(mask.geometry, 1e-6)

    def test_other_endings_are_label_maps(self, tmp_path):
        mask = Volume(make_ct().array > 0, make_ct().geometry)
        write_segmentation(mask, tmp_path / "mask.nii.gz", [Segment("liver", 1, (1, 0, 0))])
        again = Volume.read(tmp_path / "mask.nii.gz")
        assert again.name == "mask"
        assert again.array.dtype == np.uint8
        np.testing.assert_array_equal(again.array, mask.array)

    def test_a_tag_cannot_hold_the_separator(self):
        with pytest.raises(ValueError, match="contains"):
            Segment("liver", 1, (1, 0, 0), {"note": "a|b"})


@pytest.mark.parametrize("share", [0.0, 0.005, 0.1])
def test_the_filled_box_is_that_of_all_voxels_that_are_not_zero(share):
    mask = (np.random.default_rng(3).random((9, 8, 7)) < share).astype(np.uint8)
    box = filled_box(mask)
    assert mask[box].sum() == mask.sum()
    if not mask.any():
        assert mask[box].size == 0
        return
    for axis in range(3):
        faces = mask[box].max(axis=tuple(other for other in range(3) if other != axis))
        assert faces[0]
        assert faces[-1]
    wider = filled_box(mask, margin=2)
    for inner, outer, size in zip(box, wider, mask.shape, strict=True):
        assert (outer.start, outer.stop) == (max(inner.start - 2, 0), min(inner.stop + 2, size))
