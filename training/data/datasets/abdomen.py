"""The two external test sets of abdominal organs: FLARE22 and BTCV. Both come without a description.

The paper tests on them and trains on neither, so every case is of the split "test". FLARE22's labelled CTs come in part
from MSD Pancreas: a patient may be in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.datasets.description import stem
from training.data.datasets.records import CaseRecord

FLARE22 = {
    1: "liver",
    2: "kidney_right",
    3: "spleen",
    4: "pancreas",
    5: "aorta",
    6: "inferior_vena_cava",
    7: "adrenal_gland_right",
    8: "adrenal_gland_left",
    9: "gallbladder",
    10: "esophagus",
    11: "stomach",
    12: "duodenum",
    13: "kidney_left",
}
BTCV = {
    1: "spleen",
    2: "kidney_right",
    3: "kidney_left",
    4: "gallbladder",
    5: "esophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior_vena_cava",
    10: "portal_vein_and_splenic_vein",
    11: "pancreas",
    12: "adrenal_gland_right",
    13: "adrenal_gland_left",
}


def cases(folder: Path) -> Iterator[CaseRecord]:
    """FLARE22: images/CASE_0000.nii.gz and labels/CASE.nii.gz. BTCV: img/imgNNNN.nii.gz and label/labelNNNN.nii.gz.

    BTCV's may lie in RawData/Training, as they are unpacked.
    """
    for ct in sorted(folder.glob("images/FLARE22_*_0000.nii.gz")):
        case = stem(ct).removesuffix("_0000")
        yield _case(case, ct, folder / "labels" / f"{case}.nii.gz", FLARE22, "FLARE22, doi.org/10.5281/zenodo.7860267")
    for raw in (folder, folder / "Training", folder / "RawData" / "Training"):
        for ct in sorted(raw.glob("img/img*.nii.gz")):
            case = stem(ct)
            label_file = raw / "label" / f"label{case.removeprefix('img')}.nii.gz"
            yield _case(case, ct, label_file, BTCV, "BTCV abdomen, synapse.org syn3193805")


def _case(case: str, ct: Path, label_file: Path, labels: dict[int, str], source: str) -> CaseRecord:
    labelled = label_file.is_file()
    return CaseRecord(
        case=case,
        ct=ct,
        labels=labels if labelled else {},
        label_file=label_file if labelled else None,
        split="test",
        source=source,
    )
