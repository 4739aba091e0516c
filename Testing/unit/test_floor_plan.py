"""The floor plan in docs/ is that of the code: `python docs/floor_plan.py` makes it anew."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REMAKE = "run: python docs/floor_plan.py"


@pytest.fixture(scope="module")
def floor_plan():
    spec = importlib.util.spec_from_file_location("floor_plan", ROOT / "docs" / "floor_plan.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["floor_plan"] = module  # its dataclass looks for its module there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["floor_plan"]


def test_picture_and_text_are_those_of_the_code(floor_plan):
    arrows = floor_plan.plan()
    assert floor_plan.TEXT.read_text(encoding="utf-8") == floor_plan.as_text(arrows), REMAKE
    assert floor_plan.PICTURE.read_text(encoding="utf-8") == floor_plan.as_svg(arrows), REMAKE


def test_its_floors_are_those_that_the_imports_are_checked_against(floor_plan):
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (layers,) = re.findall(r'^name = "The library\'s floors".*?^layers = \[(.*?)^\]', declared, re.M | re.S)
    drawn = [room.name for room in floor_plan.BLOCKS["CTSAM3DLib, the library"]]
    assert [line for line in re.findall(r'"([a-z]+)"', layers) if line != "errors"] == drawn[:-1]


def test_every_room_is_there_and_every_arrow_is_an_import(floor_plan):
    modules = [module for module, _ in floor_plan.files()]
    rooms = {floor_plan.room_of(module) for module in modules} - {None}
    assert rooms == {f"{block}: {room.name}" for block, rooms in floor_plan.BLOCKS.items() for room in rooms}
    library = "CTSAM3DLib, the library"
    assert f"{library}: execution" in floor_plan.plan()[f"{library}: segmentation"]
    assert f"{library}: interaction" not in floor_plan.plan()[f"{library}: segmentation"]


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("CTSAM3DLib.model.decoder", "from CTSAM3DLib.execution import engine", "on a floor above"),
        ("CTSAM3DLib.imaging.volume", "from CTSAM3DLib import Click", "on a floor above"),
        ("CTSAM3DLib.model.decoder", "from ..execution.engine import Engine", "on a floor above"),
        ("CTSAM3DLib.new.module", "", "lies in no room"),
    ],
)
def test_an_import_that_points_up_and_a_file_without_a_room_are_refused(
    floor_plan, monkeypatch, tmp_path, module, line, message
):
    (tmp_path / "file.py").write_text(line)
    monkeypatch.setattr(floor_plan, "files", lambda: iter([(module, tmp_path / "file.py")]))
    with pytest.raises(ValueError, match=message):
        floor_plan.plan()
