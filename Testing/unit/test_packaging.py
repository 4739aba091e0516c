"""What Slicer's build and the Extensions Index ask of the repository, checked without Slicer."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlparse

import pytest

from Testing.host import api

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = "CTSAM3D"
SHIPPED_BY_SLICER = {"numpy", "SimpleITK", "requests"}
INSTALLED_BY_THE_PYTORCH_EXTENSION = {"torch"}
READERS_OF_FILES = {"nibabel", "pydicom", "pynrrd"}
"""Inside Slicer it is Slicer that reads CTs; `Volume.read` imports them when it is called."""
MEGABYTE = 2**20
BUNDLED = ROOT / "CTSAM3D" / "CTSAM3DLib" / "checkpoints" / "bundled"


def cmake(folder):
    return (ROOT / folder / "CMakeLists.txt").read_text()


def calls(folder, macro):
    """The words of every call of a macro in a folder's CMakeLists.txt."""
    return [arguments.split() for arguments in re.findall(rf"^{macro}\(([^)]*)\)", cmake(folder), re.MULTILINE)]


def values(arguments, keyword, keywords):
    """What follows one keyword of a call, up to the next."""
    found, collecting = [], False
    for word in arguments:
        if word in keywords:
            collecting = word == keyword
        elif collecting:
            found.append(word)
    return found


def listed_files(folder):
    keywords = api.load()["module_macros"]["slicerMacroBuildScriptedModule"]
    modules = calls(folder, "slicerMacroBuildScriptedModule")
    return [name for call in modules for kind in ("SCRIPTS", "RESOURCES") for name in values(call, kind, keywords)]


def files_of(folder):
    """Files on disk that the folder's own CMakeLists.txt answers for."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    subfolders = [path.parent for path in paths if path.name == "CMakeLists.txt" and path.parent != ROOT / folder]
    return [
        path.relative_to(ROOT / folder).as_posix()
        for path in paths
        if path.name != "CMakeLists.txt" and not any(subfolder in path.parents for subfolder in subfolders)
    ]


@pytest.mark.parametrize("folder", ["CTSAM3D", "CTSAM3D/CTSAM3DLib", "CTSAM3DServer"])
def test_cmake_lists_every_file_once_and_no_other(folder):
    assert sorted(listed_files(folder)) == sorted(files_of(folder))


def test_cmake_calls_slicers_macros_with_keywords_that_they_have():
    for folder, macro in (
        ("CTSAM3D", "slicerMacroBuildScriptedModule"),
        ("CTSAM3D/CTSAM3DLib", "slicerMacroBuildScriptedModule"),
        ("CTSAM3DServer", "slicerMacroBuildScriptedModule"),
        ("Testing/Python", "slicer_add_python_unittest"),
    ):
        keywords = set(api.load()["module_macros"][macro])
        for call in calls(folder, macro):
            assert {word for word in call if re.fullmatch("[A-Z_]+", word)} <= keywords


def test_every_module_has_the_file_and_the_class_of_its_name():
    keywords = api.load()["module_macros"]["slicerMacroBuildScriptedModule"]
    for call in calls("CTSAM3D", "slicerMacroBuildScriptedModule"):
        (name,) = values(call, "NAME", keywords)
        assert f"{name}.py" in values(call, "SCRIPTS", keywords)
        assert re.search(
            rf"^class {name}\(ScriptedLoadableModule\):", (ROOT / "CTSAM3D" / f"{name}.py").read_text(), re.M
        )


def test_no_helper_lies_where_slicer_would_take_it_for_a_module():
    assert {path.name for path in (ROOT / "CTSAM3D").glob("*.py")} == {"CTSAM3D.py", "SegmentEditorCTSAM3D.py"}


@pytest.mark.parametrize("folder", [".", "CTSAM3D", "Testing"])
def test_subfolders_of_cmake_exist(folder):
    subfolders = re.findall(r"add_subdirectory\((\w+)\)", cmake(folder))
    assert subfolders
    for subfolder in subfolders:
        assert (ROOT / folder / subfolder / "CMakeLists.txt").is_file()


def test_every_test_inside_slicer_is_listed():
    scripts = {call[call.index("SCRIPT") + 1] for call in calls("Testing/Python", "slicer_add_python_unittest")}
    assert scripts == {path.name for path in (ROOT / "Testing" / "Python").glob("*.py")}


def test_requirements_are_those_of_the_library_and_the_server():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml itself")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = set(project["dependencies"] + project["optional-dependencies"]["server"])
    elsewhere = SHIPPED_BY_SLICER | INSTALLED_BY_THE_PYTORCH_EXTENSION | READERS_OF_FILES
    lines = (ROOT / "CTSAM3D" / "Resources" / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert required == sorted(name for name in needed if re.split("[>=<]", name)[0] not in elsewhere)


def test_pip_installs_the_packages_that_are_there():
    """setuptools takes folders that hold an `__init__.py`, and whose names match a pattern of pyproject.toml."""
    (patterns,) = re.findall(r"^include = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for folder in ("CTSAM3D/CTSAM3DLib", "CTSAM3DServer"):
        for path in (ROOT / folder).rglob("*.py"):
            package = path.parent.relative_to((ROOT / folder).parent).as_posix().replace("/", ".")
            assert (path.parent / "__init__.py").is_file(), path
            assert any(fnmatch(package, pattern) for pattern in re.findall(r'"([\w*]+)"', patterns)), package


def test_the_bundled_model_is_small_enough():
    assert list(BUNDLED.glob("*.safetensors"))
    for path in BUNDLED.glob("*.safetensors"):
        assert path.stat().st_size <= 16 * MEGABYTE


def test_importing_the_library_brings_in_neither_torch_nor_simpleitk():
    code = "import sys, CTSAM3DLib; sys.exit(any(name in sys.modules for name in ('torch', 'SimpleITK', 'monai')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_engine_does_not_bring_in_the_compiler():
    """PyTorch's compiler takes a second to import and 70 MiB, and nothing that segments compiles."""
    code = "import sys, CTSAM3DLib.execution.engine; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The Extensions Index


def metadata(field):
    """One EXTENSION_ value, which the index finds only as a literal on one line."""
    (value,) = re.findall(rf'^set\(EXTENSION_{field} "([^"\n]+)"\)$', cmake("."), re.MULTILINE)
    return value


def entry():
    return json.loads((ROOT / "docs" / f"{EXTENSION}.json").read_bytes().decode())


def test_entry_obeys_its_schema():
    schemas = api.load()["extension_checks"]["schemas"]
    schema = schemas[entry()["$schema"].removesuffix("#")]
    kinds = {"string": str, "array": list, "boolean": bool, "integer": int}
    assert set(schema["required"]) <= set(entry()) <= set(schema["properties"])
    for key, value in entry().items():
        assert isinstance(value, kinds[schema["properties"][key]])
    assert b"\r" not in (ROOT / "docs" / f"{EXTENSION}.json").read_bytes()
    assert 1 <= entry()["tier"] <= 5


def test_entry_and_cmake_agree():
    assert re.search(r"^project\((\w+)\)", cmake("."), re.MULTILINE)[1] == EXTENSION
    assert not EXTENSION.lower().startswith("slicer")
    assert entry()["category"] == metadata("CATEGORY")
    assert entry()["category"] in api.load()["extension_checks"]["categories"]
    assert entry()["build_dependencies"] == metadata("DEPENDS").split()
    assert entry()["scm_url"].removesuffix(".git") == metadata("HOMEPAGE")


def test_repository_is_named_and_licensed_as_the_index_asks():
    url = urlparse(entry()["scm_url"])
    assert url.scheme in ("https", "git")
    assert Path(url.path).stem == f"Slicer{EXTENSION}"
    assert any((ROOT / name).is_file() for name in api.load()["extension_checks"]["license_file_names"])


@pytest.mark.parametrize("field", ["ICONURL", "SCREENSHOTURLS"])
def test_pictures_that_the_index_shows_are_pngs_of_the_repository(field):
    repository = urlparse(metadata("HOMEPAGE")).path
    for url in metadata(field).split():
        prefix = f"https://raw.githubusercontent.com{repository}/{entry()['scm_revision']}/"
        assert url.startswith(prefix)
        assert (ROOT / url.removeprefix(prefix)).read_bytes().startswith(b"\x89PNG\r\n")


def test_description_says_what_it_is():
    assert metadata("CONTRIBUTORS")
    for words in ("Segment Editor effect", "CT", "license", "Not for clinical use"):
        assert words in metadata("DESCRIPTION")


def test_repository_is_small_enough_for_the_index():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git clone")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    objects = subprocess.check_output(["git", "count-objects", "-v"], cwd=ROOT, text=True)
    kilobytes = sum(int(size) for size in re.findall(r"^size(?:-pack)?: (\d+)$", objects, re.MULTILINE))
    total = kilobytes * 1024 + sum(path.stat().st_size for path in files if path.is_file())
    assert total <= api.load()["extension_checks"]["size_limit_mb"] * MEGABYTE
