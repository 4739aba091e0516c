"""The order of the library: files import only from the floors below theirs (README, "How it is built")."""

import re
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "CTSAM3D" / "CTSAM3DLib"


def test_floors_import_only_from_below():
    floors = [
        {
            "errors",
            "atomic",
            "bundled",
            "cache",
            "model_info",
            "published_config",
            "geometry",
            "nifti",
            "detached",
            "dicom_series",
            "volume_io",
            "volume",
            "segmentation_io",
            "clicks",
        },
        {"grid", "prompts"},
        {"model"},
        {"engine", "models"},
        {"canvas", "growth", "result", "segmentation", "session"},
        {"connection", "protocol", "remote", "child_python", "local_process"},
        {"provenance", "prediction", "download", "model_store", "batch"},
        {"mrml"},
        {"pictures", "console", "demo", "cli"},
    ]
    floor_of = {name: floor for floor, names in enumerate(floors) for name in names}
    modules = {path.stem for path in LIBRARY.glob("*.py")} - {"__init__"}
    packages = {"bundled", "model", "mrml", "segmentation"}
    assert modules | packages == set(floor_of)
    floor_of["__version__"] = 0  # of the package itself
    for path in [*LIBRARY.glob("*.py"), *(file for name in packages for file in (LIBRARY / name).glob("*.py"))]:
        own = path.parent.name if path.parent.name in packages else path.stem
        if own == "__init__":
            continue
        for name in re.findall(r"^\s*(?:from|import) CTSAM3DLib\.?(?: import )?(\w+)", path.read_text(), re.MULTILINE):
            assert floor_of[name] <= floor_of[own], f"{path.name} imports {name} from a floor above"
    torch_users = {p.stem for p in LIBRARY.glob("*.py") if re.search(r"^\s*(import|from) torch", p.read_text(), re.M)}
    assert torch_users == {"engine"}
