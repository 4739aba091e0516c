"""Synthetic data sets in every layout that `training.data.datasets` reads, to try all commands without patients.

`python -m training.data.synthetic_datasets --output FOLDER --cases 3` writes a folder for each layout, each with
patients of its own. The names of cases are those of published splits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.phantom.torso import TorsoPhantom, torso
from CTSAM3DLib.run_command import run_command
from training import anatomy
from training.data.datasets.abdomen import BTCV, FLARE22
from training.data.datasets.decathlon import published_splits
from training.phantoms.synthetic_anatomy import labelled_as, tissues, with_tumour

Phantoms = Mapping[str, TorsoPhantom]
"""Phantoms by the names of their cases."""
SPLITS = ("train", "val", "test")
MAX_CASES = 50
"""Cases in each layout; MSD Colon has 26 published test cases, alternating with as many training cases."""
PANCREAS, COLON = {1: "pancreas", 2: "cancer"}, {1: "colon cancer primaries"}


def write_own(folder: Path, phantoms: Phantoms) -> None:
    """Our dataset.json, with the phantom's own labels and, where it is a torso, its tissues."""
    entries = []
    for case, phantom in phantoms.items():
        files = {"ct": f"ct/{case}.nii.gz", "label": f"label/{case}.nii.gz"}
        _write_pair(phantom, folder / files["ct"], folder / files["label"])
        if "subcutaneous_fat" in phantom.names.values():
            _write(Volume(tissues(phantom), phantom.ct.geometry), folder / f"label/{case}-tissue.nii.gz")
        labels = {value: {"name": name} for value, name in phantom.names.items()}
        entry = {
            "labels": labels,
            "source": "training.phantoms.phantoms",
            "licence": "Apache-2.0",
            "labels_made_by": "program",
        }
        entries.append({"case": case, **files, **entry})
    _write_json(folder / "dataset.json", entries)


def write_totalsegmentator(folder: Path, phantoms: Phantoms) -> None:
    """TotalSegmentator's folders of masks, with the phantoms' labels as classes."""
    lines = ["image_id;split"]
    for (case, phantom), split in zip(phantoms.items(), cycle(SPLITS), strict=False):
        lines.append(f"{case};{split}")
        _write(phantom.ct, folder / case / "ct.nii.gz")
        for value, name in phantom.names.items():
            mask = Volume((phantom.labels == value).astype(np.uint8), phantom.ct.geometry)
            _write(mask, folder / case / "segmentations" / f"{name}.nii.gz")
    (folder / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_nnunet(folder: Path, phantoms: Phantoms) -> None:
    """nnU-Net v2 raw."""
    for case, phantom in phantoms.items():
        _write_pair(phantom, folder / "imagesTr" / f"{case}_0000.nii.gz", folder / "labelsTr" / f"{case}.nii.gz")
    labels = {"background": 0} | {name: value for value, name in _shared_names(phantoms).items()}
    channels = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": len(phantoms)}
    _write_json(folder / "dataset.json", {**_DESCRIBED, "labels": labels, **channels})


def write_msd(folder: Path, phantoms: Phantoms) -> None:
    """The Medical Segmentation Decathlon's."""
    training = []
    for case, phantom in phantoms.items():
        files = {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}
        _write_pair(phantom, folder / files["image"], folder / files["label"])
        training.append(files)
    labels = {0: "background", **_shared_names(phantoms)}
    described = {**_DESCRIBED, "modality": {"0": "CT"}, "labels": labels}
    _write_json(folder / "dataset.json", {**described, "training": training, "test": []})


def write_datalist(folder: Path, phantoms: Phantoms) -> None:
    """A MONAI datalist; every third case is a test case, the others are in folds 0 and 1 in turn."""
    training, testing = [], []
    for number, (case, phantom) in enumerate(phantoms.items()):
        files = {"image": f"image/{case}.nii.gz", "label": f"label/{case}.nii.gz"}
        _write_pair(phantom, folder / files["image"], folder / files["label"])
        if number % 3 == 2:
            testing.append(files)
        else:
            training.append({**files, "fold": 1 - number % 3})
    content = {**_DESCRIBED, "label_dict": _shared_names(phantoms), "training": training, "testing": testing}
    _write_json(folder / "datalist.json", content)


def write_flare22(folder: Path, phantoms: Phantoms) -> None:
    """FLARE22's images and labels."""
    for case, phantom in phantoms.items():
        _write_pair(phantom, folder / "images" / f"{case}_0000.nii.gz", folder / "labels" / f"{case}.nii.gz")


def write_btcv(folder: Path, phantoms: Phantoms) -> None:
    """BTCV's RawData."""
    raw = folder / "RawData" / "Training"
    for case, phantom in phantoms.items():
        label_file = raw / "label" / f"label{case.removeprefix('img')}.nii.gz"
        _write_pair(phantom, raw / "img" / f"{case}.nii.gz", label_file)


Labelling = Callable[[TorsoPhantom, int], TorsoPhantom]
"""The labels of a data set in a torso, by the patient's seed."""


@dataclass(frozen=True)
class Layout:
    """A layout: folder, names of cases, labels, and the writer of its files."""

    folder: str
    cases: Sequence[str]
    labelled: Labelling
    write: Callable[[Path, Phantoms], None]


def _all_parts(phantom: TorsoPhantom, _seed: int) -> TorsoPhantom:
    return phantom


def _structures(names: Mapping[int, str]) -> Labelling:
    return lambda phantom, _seed: labelled_as(phantom, names)


def _tumour(organ: str, names: Mapping[int, str], tumour: int) -> Labelling:
    return lambda phantom, seed: with_tumour(phantom, organ, names, tumour, seed)


def _numbered(pattern: str) -> list[str]:
    return [pattern.format(number) for number in range(1, MAX_CASES + 1)]


def _msd_cases(task: str) -> list[str]:
    """Test cases of the published split and training cases in turn."""
    published = published_splits()
    test = [case for case, split in published.items() if split == "test" and case.startswith(task)]
    train = [case for case in _numbered(task + "_{:03d}") if case not in published]
    return list(chain.from_iterable(zip(test, train, strict=False)))


LAYOUTS: dict[str, Layout] = {
    "own": Layout("CTSAM3D", _numbered("torso-{}"), _all_parts, write_own),
    "totalsegmentator-v1": Layout(
        "TotalSegmentator-v1", _numbered("s{:04d}"), _structures(anatomy.V1), write_totalsegmentator
    ),
    "totalsegmentator-v2": Layout(
        "TotalSegmentator-v2", _numbered("s{:04d}"), _structures(anatomy.V2), write_totalsegmentator
    ),
    "flare22": Layout("FLARE22", _numbered("FLARE22_Tr_{:04d}"), _structures(FLARE22), write_flare22),
    "btcv": Layout("BTCV", _numbered("img{:04d}"), _structures(BTCV), write_btcv),
    "msd-pancreas": Layout("Task07_Pancreas", _msd_cases("pancreas"), _tumour("pancreas", PANCREAS, 2), write_msd),
    "msd-colon": Layout("Task10_Colon", _msd_cases("colon"), _tumour("colon", COLON, 1), write_msd),
    "nnunet": Layout("Dataset501_Torso", _numbered("torso_{:03d}"), _all_parts, write_nnunet),
    "monai": Layout("MONAI", _numbered("torso-{}"), _structures(anatomy.V2), write_datalist),
}
"""The layouts by their names on the command line."""
_DESCRIBED = {"name": "synthetic torsos", "licence": "Apache-2.0"}


def write_layout(name: str, output: Path, cases: int, seed: int = 0, spacing: float = 4.0) -> Path:
    """Write a data set of synthetic torsos into a folder of `output` and return that folder.

    The same arguments give the same voxels; data sets share no patient. Beside TotalSegmentator's, `FOLDER-tissues`
    holds each case's tissue types, as `training.curate --tissues` takes them. Raises OutputError.
    """
    number, layout = list(LAYOUTS).index(name), LAYOUTS[name]
    seeds = [seed + 1000 * number + case for case in range(cases)]
    torsos = [torso(patient, (spacing,) * 3) for patient in seeds]
    names = layout.cases[:cases]
    phantoms = {
        case: layout.labelled(phantom, patient) for case, phantom, patient in zip(names, torsos, seeds, strict=True)
    }
    folder = output / layout.folder
    folder.mkdir(parents=True, exist_ok=True)
    layout.write(folder, phantoms)
    if layout.write is write_totalsegmentator:
        for case, phantom in zip(names, torsos, strict=True):
            _write(
                Volume(tissues(phantom), phantom.ct.geometry), output / f"{layout.folder}-tissues" / f"{case}.nii.gz"
            )
    return folder


def main(
    output: Annotated[Path, typer.Option(help="A folder, made where it is not there.")],
    cases: Annotated[int, typer.Option(min=1, max=MAX_CASES, help="How many patients in each layout.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the first patient.")] = 0,
    spacing: Annotated[float, typer.Option(min=1.0, help="Of the voxels, mm.")] = 4.0,
    layout: Annotated[list[str] | None, typer.Option(help=f"{', '.join(LAYOUTS)}; all by default.")] = None,
) -> None:
    """Write synthetic torsos in the layouts of public data sets."""
    if unknown := sorted(set(layout or ()) - set(LAYOUTS)):
        raise CTSAM3DError(f"There is no layout {', '.join(unknown)}; choose among {', '.join(LAYOUTS)}.")
    for name in track(layout or list(LAYOUTS), "writing", console=Console(stderr=True)):
        typer.echo(write_layout(name, output, cases, seed, spacing))


def _shared_names(phantoms: Phantoms) -> dict[int, str]:
    names = {value: name for phantom in phantoms.values() for value, name in phantom.names.items()}
    return dict(sorted(names.items()))


def _write_pair(phantom: TorsoPhantom, ct: Path, labels: Path) -> None:
    _write(phantom.ct, ct)
    _write(Volume(phantom.labels, phantom.ct.geometry), labels)


def _write(volume: Volume, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    volume.write(path)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
