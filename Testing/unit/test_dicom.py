"""DICOM CTs: every slice in its place with its HU, or the reason why not; and the CT found among what is beside it."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.fileset import FileSet
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.dicom.find import SeveralSeriesError
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from Testing.support.dicom_files import (
    AXIAL,
    CONVERTED_CT,
    CT,
    ENHANCED_CT,
    SPACING,
    even,
    hu_of,
    write_frames,
    write_series,
)

HU = hu_of()
GEOMETRY = Geometry((6, 8, 9), (1, 2, 3), (*SPACING[::-1], 2.5), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def assert_read(path, hu=HU, geometry=GEOMETRY, **how) -> Volume:
    volume = Volume.read(path, **how)
    np.testing.assert_array_equal(volume.array, hu)
    assert volume.geometry.is_close(geometry, 1e-6)
    return volume


def refused(path, said, **how) -> str:
    """The message of the VolumeError that reading raises: one sentence."""
    with pytest.raises(VolumeError, match=said) as raised:
        Volume.read(path, **how)
    message = str(raised.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


class TestSeries:
    def test_a_folder_and_any_of_its_files(self, tmp_path):
        files = write_series(tmp_path, HU, names=lambda k: f"{9 - k}.dcm")  # names against the order of positions
        for path in (tmp_path, files[3]):
            assert assert_read(path).array.dtype == np.int16

    def test_a_tilted_gantry_is_kept(self, tmp_path):
        write_series(tmp_path, HU, [(1, 2 + 0.5 * k, 3 + 2.5 * k) for k in range(6)])
        assert Volume.read(tmp_path).geometry.to_lps((0, 0, 4)) == pytest.approx([1, 4, 13])

    def test_a_slope_of_its_own_in_each_slice(self, tmp_path):
        write_series(tmp_path, HU, scale=lambda k: (1.0, -1024.0 + k))
        assert_read(tmp_path)

    def test_an_unspecified_unit_is_taken_for_hu(self, tmp_path):
        """As some writers have it; whether the values can be HU is checked later."""
        write_series(tmp_path, HU, RescaleType="US")
        assert_read(tmp_path)

    def test_values_too_large_for_the_first_slice_s_type(self, tmp_path):
        hu = HU.astype(np.float32)
        hu[3] += 0.5
        write_series(tmp_path, hu, scale=lambda k: (0.5, 0.0) if k == 3 else (1.0, -1024.0))
        assert assert_read(tmp_path, hu).array.dtype == np.float32

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian])
    def test_other_ways_to_store(self, tmp_path, syntax):
        write_series(tmp_path, HU, syntax=syntax)
        assert_read(tmp_path)

    def test_big_endian(self, tmp_path):
        def swap(k, file):
            file.PixelData = np.frombuffer(file.PixelData, "<i2").byteswap().tobytes()
            file["PixelData"].VR = "OW"

        write_series(tmp_path, HU, syntax=ExplicitVRBigEndian, edit=swap)
        assert_read(tmp_path)

    def test_bits_above_the_stored_ones_are_something_else(self, tmp_path):
        def overlay(k, file):
            file.BitsStored, file.HighBit, file.PixelRepresentation = 12, 11, 0
            stored = np.frombuffer(file.PixelData, "<i2").astype("<u2") | 0x8000
            file.PixelData = stored.tobytes()

        write_series(tmp_path, HU, edit=overlay)
        assert_read(tmp_path)

    def test_padding_is_air(self, tmp_path):
        def pad(k, file):
            stored = np.frombuffer(file.PixelData, "<i2").copy()
            stored[:9] = 30000
            file.PixelData, file.PixelPaddingValue = stored.tobytes(), 30000

        write_series(tmp_path, HU, edit=pad)
        expected = HU.copy()
        expected[:, 0] = -1024
        assert_read(tmp_path, expected)

    @pytest.mark.parametrize("kept", ["file meta information", "nothing"])
    def test_files_without_a_preamble(self, tmp_path, kept):
        for file in write_series(tmp_path, HU, syntax=ImplicitVRLittleEndian):
            if kept == "nothing":
                dataset = dcmread(file)
                dataset.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
                whole = file.read_bytes()
                start = 132 + 12 + dataset.file_meta.FileMetaInformationGroupLength if whole[128:132] == b"DICM" else 0
                file.write_bytes(whole[start:])
            else:
                file.write_bytes(file.read_bytes()[132:])
        assert_read(tmp_path)
        assert_read(tmp_path / "I002")

    def test_a_single_slice_is_read_but_is_no_ct_for_us(self, tmp_path):
        volume = Volume.read(write_series(tmp_path, HU[:1])[0])
        assert volume.array.shape == (1, 8, 9)
        with pytest.raises(VolumeError, match="only one slice"):
            volume.check_ct()

    def test_packed_by_run_lengths(self, tmp_path):
        for file in write_series(tmp_path, HU):
            dataset = dcmread(file)
            dataset.compress(RLELossless)
            dataset.save_as(file)
        assert_read(tmp_path)

    @pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
    def test_compressed_without_loss(self, tmp_path, compressor):
        """Written by GDCM, in series and as frames of one file."""
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        files = write_series(tmp_path / "series", HU, scale=lambda k: (1.0, 0.0))
        for file in files:
            image = sitk.ReadImage(str(file), sitk.sitkInt16)
            writer.SetFileName(str(file.with_suffix(".dcm")))
            writer.Execute(image)
            file.unlink()
        assert_read(tmp_path / "series")
        slices = [dcmread(file.with_suffix(".dcm")) for file in files]
        assert slices[0].file_meta.TransferSyntaxUID.is_compressed

        def compressed(file):
            fragments = [next(generate_frames(one.PixelData, number_of_frames=1)) for one in slices]
            file.PixelData = encapsulate(fragments)
            file["PixelData"].is_undefined_length = True
            file.file_meta.TransferSyntaxUID = slices[0].file_meta.TransferSyntaxUID
            for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
                setattr(file, name, getattr(slices[0], name))

        scales = [(float(one.RescaleSlope), float(one.RescaleIntercept)) for one in slices]
        write_frames(tmp_path / "frames" / "ct.dcm", HU, scale=scales.__getitem__, edit=compressed)
        assert_read(tmp_path / "frames")


class TestFrames:
    @pytest.mark.parametrize("sop_class", [ENHANCED_CT, CONVERTED_CT])
    @pytest.mark.parametrize("order", [range(6), (0, 2, 4, 1, 3, 5), range(5, -1, -1)])
    def test_frames_lie_where_each_says(self, tmp_path, sop_class, order):
        positions = even(6)
        write_frames(tmp_path / "ct.dcm", HU[list(order)], [positions[k] for k in order], sop_class=sop_class)
        assert_read(tmp_path / "ct.dcm")
        assert_read(tmp_path)

    def test_each_frame_has_its_own_scale(self, tmp_path):
        write_frames(tmp_path / "ct.dcm", HU, scale=lambda k: (1.0, -1024.0) if k < 3 else (2.0, 0.0))
        expected = HU.copy()
        expected[3:] = np.rint(expected[3:] / 2) * 2
        assert_read(tmp_path / "ct.dcm", expected)

    def test_a_series_of_several_files_of_frames(self, tmp_path):
        series = generate_uid()
        write_frames(tmp_path / "a", HU[:2], even(6)[:2], series)
        write_frames(tmp_path / "b", HU[2:], even(6)[2:], series)
        assert_read(tmp_path)

    @pytest.mark.parametrize("name", ["TemporalPositionIndex", "StackID", "FrameAcquisitionNumber"])
    def test_phases_and_stacks_are_volumes_to_choose_from(self, tmp_path, name):
        both = np.concatenate([HU, HU + 7])
        kind = str if name == "StackID" else int
        write_frames(tmp_path / "ct.dcm", both, even(6) * 2, content=lambda k: {name: kind(1 + k // 6)})
        with pytest.raises(SeveralSeriesError) as several:
            Volume.read(tmp_path / "ct.dcm")
        assert [choice.phase for choice in several.value.choices] == [f"{name} 1", f"{name} 2"]
        assert_read(tmp_path / "ct.dcm", HU, series=1)
        assert_read(tmp_path / "ct.dcm", HU + 7, series="2")

    def test_many_frames_with_one_position(self, tmp_path):
        """CT Image Storage with many frames, as some dental systems write it."""

        def of_one_position(file):
            del file.SharedFunctionalGroupsSequence, file.PerFrameFunctionalGroupsSequence
            file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, 0], list(AXIAL)
            file.PixelSpacing, file.RescaleSlope, file.RescaleIntercept = [1, 1], 1, -1024

        write_frames(tmp_path / "ct.dcm", HU, sop_class=CT, edit=of_one_position)
        refused(tmp_path / "ct.dcm", "does not say where its slices lie .*of each of its frames")

    def test_a_number_of_frames_that_is_not_so(self, tmp_path):
        def one_less(file):
            file.PerFrameFunctionalGroupsSequence.pop()

        write_frames(tmp_path / "ct.dcm", HU, edit=one_less)
        refused(tmp_path / "ct.dcm", "says that it has 6 frames, and describes 5")


class TestWhatIsNoGrid:
    @pytest.mark.parametrize(
        ("heights", "said"),
        [
            ((0, 1, 2, 4, 5, 6), r"one slice is missing after the slice at \(1\.0, 2\.0, 5\.0\) mm"),
            ((0, 1, 5, 6, 7, 8), "3 slices are missing"),
            ((0, 1, 2, 3, 3.1, 4), "unevenly spaced slices"),
            ((0, 1, 2, 3, 4.2, 5), "unevenly spaced slices"),
            ((0, 1, 1.5, 3, 3.2, 5), "unevenly spaced slices"),
        ],
    )
    @pytest.mark.parametrize("frames", [False, True])
    def test_gaps_and_uneven_slices(self, tmp_path, heights, said, frames):
        positions = [(1, 2, 2.5 * height) for height in heights]
        if frames:
            write_frames(tmp_path / "ct.dcm", HU, positions)
        else:
            write_series(tmp_path, HU, positions)
        refused(tmp_path, said)

    def test_positions_in_tenths_of_a_millimetre_are_even(self, tmp_path):
        write_series(tmp_path, HU, [(1, 2, round(0.625 * k, 1)) for k in range(6)])
        assert Volume.read(tmp_path).geometry.spacing[2] == pytest.approx(0.62, abs=0.01)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"ImagePositionPatient": None}, "does not say where its slices lie"),
            ({"ImageOrientationPatient": None}, "does not say where its slices lie"),
            ({"PixelSpacing": None}, "does not say how large its voxels are"),
            ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.8, 0]}, "not at right angles"),
            ({"RescaleType": "Z_EFF"}, "in Z_EFF, not in Hounsfield units"),
        ],
    )
    def test_what_a_file_lacks(self, tmp_path, changes, said):
        def change(k, file):
            for name, value in changes.items():
                if value is None:
                    delattr(file, name)
                else:
                    setattr(file, name, value)

        write_series(tmp_path, HU, edit=change)
        refused(tmp_path, said)

    def test_colours_and_cut_files(self, tmp_path):
        files = write_series(tmp_path / "cut", HU)
        files[2].write_bytes(files[2].read_bytes()[:-20])
        refused(tmp_path / "cut", "I002 .*(ends before its last voxel|damaged)")

        def colour(k, file):
            file.SamplesPerPixel, file.PhotometricInterpretation, file.PlanarConfiguration = 3, "RGB", 0

        write_series(tmp_path / "colour", HU, edit=colour)
        refused(tmp_path / "colour", "colour image")


class TestExtraSlices:
    def test_copies_of_slices_are_taken_once_and_said(self, tmp_path):
        files = write_series(tmp_path, HU)
        shutil.copy(files[2], tmp_path / "I002 (1)")
        (note,) = assert_read(tmp_path).notes
        assert "1 slices that were there twice" in note

    def test_a_series_exported_twice(self, tmp_path):
        series = generate_uid()
        write_series(tmp_path, HU, series=series)
        write_series(tmp_path, HU, series=series, names=lambda k: f"again{k}")
        assert_read(tmp_path)

    @pytest.mark.parametrize("is_marked", [True, False])
    def test_a_scout_in_the_series(self, tmp_path, is_marked):
        series = generate_uid()
        write_series(tmp_path, HU, series=series)
        marks = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]} if is_marked else {}
        scout = hu_of((1, 8, 9))
        write_series(tmp_path, scout, [(0, -50, 60)], series, (0, 1, 0, 0, 0, -1), names=lambda k: "scout", **marks)
        assert "left out" in assert_read(tmp_path).notes[0]

    @pytest.mark.parametrize("looks_alike", [True, False])
    def test_two_phases_of_one_series(self, tmp_path, looks_alike):
        series = generate_uid()
        other = HU if looks_alike else HU + 7
        for number, hu in ((1, HU), (2, other)):
            write_series(tmp_path, hu, series=series, names=lambda k, n=number: f"{n}-{k}", AcquisitionNumber=number)
        message = refused(tmp_path, "holds 2 CTs, so choose one by its number")
        assert '1: series 4 "arterial", 2020-01-31, AcquisitionNumber 1, 6 slices of 9x8, 2.5 mm apart' in message
        assert_read(tmp_path, other, series=2)
        assert_read(tmp_path / "2-3", other)

    def test_volumes_that_only_their_numbers_tell_apart(self, tmp_path):
        series = generate_uid()
        for number, hu in ((0, HU), (1, HU + 7)):

            def renumber(k, file, first=6 * number):
                file.InstanceNumber = first + k + 1

            write_series(tmp_path, hu, series=series, names=lambda k, n=number: f"{n}-{k}", edit=renumber)
        refused(tmp_path, "volume 1 of 2")
        assert_read(tmp_path, HU + 7, series=2)

    def test_different_slices_at_one_place(self, tmp_path):
        series = generate_uid()
        write_series(tmp_path, HU, series=series)
        write_series(tmp_path, HU[2:3] + 5, even(6)[2:3], series, names=lambda k: "more")
        refused(tmp_path, "several different slices at the same place")

    def test_images_of_another_size_are_another_volume(self, tmp_path):
        series = generate_uid()
        write_series(tmp_path, HU, series=series)
        write_series(tmp_path, hu_of((6, 5, 5)), series=series, names=lambda k: f"small{k}")
        refused(tmp_path, "9x8 voxels.*5x5 voxels")


class TestFinding:
    def beside_a_ct(self, folder):
        (folder / "README.TXT").write_text("viewer")
        (folder / "Thumbs.db").write_bytes(b"\0" * 500)
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "._I000").write_bytes(b"\0\5\26\7" * 100)
        (folder / "._I000").write_bytes(b"\0\5\26\7" * 100)
        write_series(folder / "scout", hu_of((1, 8, 9)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        write_series(folder / "PT", HU, Modality="PT")
        report = dcmread(next((folder / "PT").iterdir()))
        del report.PixelData, report.Rows
        report.Modality, report.SOPClassUID = "SR", "1.2.840.10008.5.1.4.1.1.88.22"
        report.save_as(folder / "SR001")

    @pytest.mark.parametrize("packed", [False, True])
    def test_among_what_else_lies_on_a_cd(self, tmp_path, packed):
        write_series(tmp_path / "cd" / "DICOM" / "S1", HU)
        self.beside_a_ct(tmp_path / "cd")
        path = shutil.make_archive(str(tmp_path / "cd"), "zip", tmp_path / "cd") if packed else tmp_path / "cd"
        assert_read(path)

    def test_a_fileset_with_its_dicomdir(self, tmp_path):
        fileset = FileSet()
        for file in write_series(tmp_path / "plain", HU, PatientID="1", PatientName="T", StudyDate="20200101",
                                 StudyTime="10", StudyID="1"):  # fmt: skip
            fileset.add(file)
        fileset.write(tmp_path / "cd")
        assert_read(tmp_path / "cd")

    def test_several_series_are_listed_and_one_is_chosen(self, tmp_path):
        write_series(tmp_path / "a", HU)
        venous = write_series(tmp_path / "b", HU[:4] + 3, SeriesDescription="venous", SeriesNumber=5)
        with pytest.raises(SeveralSeriesError) as several:
            Volume.read(tmp_path)
        first, second = several.value.choices
        assert (first.series.description, second.series.description) == ("arterial", "venous")
        assert (len(second.frames), second.slice_distance) == (4, pytest.approx(2.5))
        geometry = Geometry((4, 8, 9), GEOMETRY.origin, GEOMETRY.spacing, GEOMETRY.direction)
        for path, series in ((tmp_path, 2), (tmp_path, second.series.uid), (venous[0], None)):
            assert_read(path, HU[:4] + 3, geometry, series=series)
        refused(tmp_path, "no CT number 3; these are there: 1: series 4", series=3)

    def test_no_ct(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no image")
        refused(tmp_path, "holds no DICOM images")
        write_series(tmp_path, HU, Modality="MR")
        refused(tmp_path, "holds no CT, only MR")
        refused(tmp_path / "I000", "holds no CT, only MR")

    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path, "holds no file")

    def test_an_image_file_beside_a_series(self, tmp_path):
        write_series(tmp_path, HU)
        Volume(HU, GEOMETRY).write(tmp_path / "ct.nii.gz")
        refused(tmp_path, "holds the image ct.nii.gz and a DICOM CT")
        assert_read(tmp_path, series=1)

    def test_a_folder_and_a_zip_with_one_image_file(self, tmp_path):
        (tmp_path / "case").mkdir()
        Volume(HU, GEOMETRY).write(tmp_path / "case" / "ct.nii.gz")
        (tmp_path / "case" / "README.md").write_text("about")
        assert_read(tmp_path / "case")
        assert_read(shutil.make_archive(str(tmp_path / "case"), "zip", tmp_path / "case"))


@st.composite
def scans(draw):
    """A random CT: positions, orientation, order and scale of its slices, and which of them are lost."""
    count = draw(st.integers(3, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    normal = np.cross(turn[:, 0], turn[:, 1])
    step = normal * draw(st.floats(0.3, 8)) + draw(st.sampled_from([0.0, 0.4])) * turn[:, 1]
    first = rng.normal(size=3) * 100
    lost = draw(st.sets(st.integers(1, count - 2), max_size=count - 3) if count > 3 else st.just(set()))
    kept = [k for k in range(count) if k not in lost]
    return {
        "positions": [first + k * step for k in range(count)],
        "orientation": (*turn[:, 0], *turn[:, 1]),
        "order": list(rng.permutation(kept)),
        "intercepts": rng.integers(-1100, 100, count).astype(float),
        "is_whole": not lost or np.ptp(np.diff(kept)) == 0,
        "kept": kept,
        "as_frames": draw(st.booleans()),
        "turn": turn,
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scan=scans())
def test_any_scan_is_read_to_a_micrometre_or_refused(tmp_path_factory, scan):
    folder = tmp_path_factory.mktemp("scan")
    order, positions = scan["order"], scan["positions"]
    hu = hu_of((len(positions), 8, 9))
    how = {
        "positions": [positions[k] for k in order],
        "orientation": scan["orientation"],
        "scale": lambda place: (1.0, scan["intercepts"][order[place]]),
    }
    if scan["as_frames"]:
        write_frames(folder / "ct.dcm", hu[order], **how)
    else:
        write_series(folder, hu[order], **how)
    if not scan["is_whole"]:
        refused(folder, "missing|unevenly spaced")
        return
    volume = Volume.read(folder)
    kept = scan["kept"]
    np.testing.assert_array_equal(volume.array, hu[kept])
    expected = [positions[kept[0]] + 3 * SPACING[1] * scan["turn"][:, 0] + 5 * SPACING[0] * scan["turn"][:, 1]]
    assert volume.geometry.to_lps([(3, 5, 0)]) == pytest.approx(np.array(expected), abs=1e-3)
    corner = positions[kept[-1]] + 8 * SPACING[1] * scan["turn"][:, 0] + 7 * SPACING[0] * scan["turn"][:, 1]
    assert np.linalg.norm(volume.geometry.to_lps([(8, 7, len(kept) - 1)])[0] - corner) < 1e-3
