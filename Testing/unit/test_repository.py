"""What Slicer's build and the Extensions Index ask of the repository, checked without Slicer."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "CTSAM3D" / "CTSAM3DLib"
MEGABYTE = 2**20


def test_cmake_lists_every_file_of_the_library_and_no_other():
    listed = set(re.findall(r"^    (\S+)$", (LIBRARY / "CMakeLists.txt").read_text(), re.MULTILINE))
    there = {
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*")
        if path.is_file() and path.suffix in (".py", ".safetensors", ".md") and "__pycache__" not in path.parts
    }
    assert listed == there


def test_pip_installs_the_packages_that_are_there():
    project = (ROOT / "pyproject.toml").read_text()
    packages = {path.parent.relative_to(LIBRARY.parent).as_posix() for path in LIBRARY.rglob("__init__.py")}
    for package in packages:
        assert f'"{package.replace("/", ".")}"' in project


@pytest.mark.parametrize("field", ["HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"])
def test_extension_metadata_is_literal_and_on_one_line(field):
    cmake = (ROOT / "CMakeLists.txt").read_text()
    (value,) = re.findall(rf'^set\(EXTENSION_{field} "([^"\n]+)"\)$', cmake, re.MULTILINE)
    assert "project(CTSAM3D)" in cmake
    if field in ("HOMEPAGE", "ICONURL", "SCREENSHOTURLS"):
        assert value.startswith("https://")


def test_the_bundled_model_is_small_enough():
    for path in (LIBRARY / "bundled").glob("*.safetensors"):
        assert path.stat().st_size <= 8 * MEGABYTE


def test_importing_the_library_brings_in_neither_torch_nor_simpleitk():
    code = "import sys, CTSAM3DLib; sys.exit(any(name in sys.modules for name in ('torch', 'SimpleITK', 'monai')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_floors_import_only_from_below():
    floors = [
        {
            "errors",
            "atomic",
            "cache",
            "model_info",
            "published_config",
            "geometry",
            "nifti",
            "dicom_series",
            "volume_io",
            "volume",
            "segmentation_io",
            "clicks",
        },
        {"grid", "prompts"},
        {"model"},
        {"engine", "models"},
        {"canvas", "growth", "result", "session"},
        {"connection", "protocol", "remote", "local_process"},
        {"provenance", "prediction", "download", "model_store", "batch"},
        {"mrml"},
        {"pictures", "console", "demo", "cli"},
    ]
    floor_of = {name: floor for floor, names in enumerate(floors) for name in names}
    modules = {path.stem for path in LIBRARY.glob("*.py")} - {"__init__"}
    packages = {"model", "mrml"}
    assert modules | packages == set(floor_of)
    for path in [*LIBRARY.glob("*.py"), *(file for name in packages for file in (LIBRARY / name).glob("*.py"))]:
        own = path.parent.name if path.parent.name in packages else path.stem
        if own == "__init__":
            continue
        for name in re.findall(r"^\s*(?:from|import) CTSAM3DLib\.?(?: import )?(\w+)", path.read_text(), re.MULTILINE):
            assert floor_of[name] <= floor_of[own], f"{path.name} imports {name} from a floor above"
    torch_users = {p.stem for p in LIBRARY.glob("*.py") if re.search(r"^\s*(import|from) torch", p.read_text(), re.M)}
    assert torch_users == {"engine"}
