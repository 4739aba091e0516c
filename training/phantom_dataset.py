"""A small data set of synthetic torsos, so that every command can be tried without patients.

`python -m training.phantom_dataset FOLDER --layout nnunet` writes it in any layout that `training.datasets` reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from CTSAM3DLib.cli import run_command
from CTSAM3DLib.volume import Volume
from training.phantoms import TorsoPhantom, torso

Layout = Literal["own", "totalsegmentator", "nnunet", "msd"]
SPLITS = ("train", "val", "test")


def write_dataset(folder: Path, phantoms: Mapping[str, TorsoPhantom], layout: Layout = "own") -> None:
    """Write phantoms by the names of their cases. Raises OutputError where a file cannot be written."""
    writers: dict[Layout, Callable[[Path, Mapping[str, TorsoPhantom]], None]] = {
        "own": _write_own,
        "totalsegmentator": _write_totalsegmentator,
        "nnunet": _write_nnunet,
        "msd": _write_msd,
    }
    writers[layout](folder, phantoms)


def _write_own(folder: Path, phantoms: Mapping[str, TorsoPhantom]) -> None:
    entries = []
    for case, phantom in phantoms.items():
        files = {"ct": f"ct/{case}.nii.gz", "label": f"label/{case}.nii.gz"}
        _write(phantom, folder / files["ct"], folder / files["label"])
        labels = {value: {"name": name} for value, name in phantom.names.items()}
        entry = {"labels": labels, "source": "training.phantoms", "licence": "Apache-2.0", "labels_made_by": "program"}
        entries.append({"case": case, **files, **entry})
    _write_json(folder, entries)


def _write_totalsegmentator(folder: Path, phantoms: Mapping[str, TorsoPhantom]) -> None:
    """The splits of the cases are training, validation and test in turn."""
    lines = ["image_id;split"]
    for number, (case, phantom) in enumerate(phantoms.items()):
        lines.append(f"{case};{SPLITS[number % len(SPLITS)]}")
        _write_volume(phantom.ct, folder / case / "ct.nii.gz")
        for value, name in phantom.names.items():
            mask = Volume((phantom.labels == value).astype(np.uint8), phantom.ct.geometry)
            _write_volume(mask, folder / case / "segmentations" / f"{name}.nii.gz")
    (folder / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_nnunet(folder: Path, phantoms: Mapping[str, TorsoPhantom]) -> None:
    for case, phantom in phantoms.items():
        _write(phantom, folder / "imagesTr" / f"{case}_0000.nii.gz", folder / "labelsTr" / f"{case}.nii.gz")
    labels = {"background": 0} | {name: value for value, name in _shared_names(phantoms).items()}
    channels = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": len(phantoms)}
    _write_json(folder, {"name": "Phantoms", "licence": "Apache-2.0", "labels": labels, **channels})


def _write_msd(folder: Path, phantoms: Mapping[str, TorsoPhantom]) -> None:
    training = []
    for case, phantom in phantoms.items():
        files = {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}
        _write(phantom, folder / files["image"], folder / files["label"])
        training.append(files)
    labels = {0: "background", **_shared_names(phantoms)}
    described = {"name": "Phantoms", "licence": "Apache-2.0", "modality": {"0": "CT"}}
    _write_json(folder, {**described, "labels": labels, "training": training, "test": []})


def _shared_names(phantoms: Mapping[str, TorsoPhantom]) -> dict[int, str]:
    return {value: name for phantom in phantoms.values() for value, name in phantom.names.items()}


def _write(phantom: TorsoPhantom, ct: Path, labels: Path) -> None:
    _write_volume(phantom.ct, ct)
    _write_volume(Volume(phantom.labels, phantom.ct.geometry), labels)


def _write_volume(volume: Volume, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    volume.write(path)


def _write_json(folder: Path, content: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def main(
    folder: Path,
    cases: Annotated[int, typer.Option(help="How many torsos.")] = 4,
    spacing: Annotated[float, typer.Option(help="Of their voxels, mm.")] = 3.0,
    layout: Annotated[Layout, typer.Option(help="How the files are laid out.")] = "own",
) -> None:
    """Write a data set of torsos."""
    phantoms = {f"phantom-{seed}": torso(seed, (spacing,) * 3) for seed in range(cases)}
    write_dataset(folder, phantoms, layout)


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
