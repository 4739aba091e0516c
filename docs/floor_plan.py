"""The floor plan of the code, read from its imports: `python docs/floor_plan.py` writes `docs/images/floor-plan.svg`.

A room is a package, or a few files of one concept. An arrow leads from a room to a room that it imports. The same plan
as text lies beside the picture. Both must equal what this script makes of the code (`Testing/unit/test_floor_plan.py`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "floor-plan.svg"
TEXT = PICTURE.with_suffix(".txt")
SOURCES = {"CTSAM3DLib": "CTSAM3D", "CTSAM3DWidgets": "CTSAM3D", "SegmentEditorCTSAM3DLib": "CTSAM3D",
           "CTSAM3D": "CTSAM3D", "SegmentEditorCTSAM3D": "CTSAM3D", "CTSAM3DServer": ".", "training": "."}  # fmt: skip
"""Each top-level package or module, and the folder that it lies in."""


@dataclass(frozen=True)
class Room:
    """A room: its name, what is in it, and the modules that belong to it (with everything below them)."""

    name: str
    what: str
    modules: tuple[str, ...]


def _library(name: str, what: str) -> Room:
    return Room(name, what, (f"CTSAM3DLib.{name}",))


BLOCKS: dict[str, tuple[Room, ...]] = {
    "CTSAM3DLib, the library": (
        _library("commands", "the command line, the demo"),
        _library("mrml", "MRML nodes, RAS; the only room with Slicer"),
        _library("interaction", "a person's clicks become predictions"),
        _library("remote", "protocol, client, server on this computer"),
        _library("output", ".seg.nrrd, pictures, provenance"),
        _library("segmentation", "patches, prompt maps, growth, session, result"),
        _library("execution", "the network on a device; cpu/ is the fast form"),
        _library("checkpoints", "trained weights: bundled, released, stored"),
        _library("model", "the paper's network; small/, ablations/"),
        _library("phantom", "a synthetic torso"),
        _library("clicks", "a click, its files and tables, simulated users"),
        _library("imaging", "volume, geometry, files, DICOM, resampling"),
        Room(
            "ground",
            "errors, atomic, cache, cancel, loopback, run_command",
            tuple(f"CTSAM3DLib.{name}" for name in ("errors", "atomic", "cache", "cancel", "loopback", "run_command")),
        ),
    ),
    "3D Slicer": (
        Room("modules", "what Slicer loads; CTSAM3DLogic", ("CTSAM3D", "SegmentEditorCTSAM3D")),
        Room("effect", "the Segment Editor effect", ("SegmentEditorCTSAM3DLib",)),
        Room("widgets", "the module's panel, backends, consent", ("CTSAM3DWidgets",)),
    ),
    "CTSAM3DServer": (
        Room("web", "one process for each page", ("CTSAM3DServer.web",)),
        Room("web/gateway", "faces the browser, starts the pages", ("CTSAM3DServer.web.gateway",)),
        Room("web/page", "what a page shows", ("CTSAM3DServer.web.page",)),
        Room("web/workspace", "what a person does on a page", ("CTSAM3DServer.web.workspace",)),
        Room("web/scene", "MRML scene, views, upload", ("CTSAM3DServer.web.scene",)),
        Room("web/handover", "what the gateway gives to a page", ("CTSAM3DServer.web.handover",)),
        Room("server", "HTTP, admission, service, scheduler", ("CTSAM3DServer",)),
    ),
    "training": (
        Room("paper", "every table and figure from nothing", ("training.paper",)),
        Room("exhibits", "tables and figures from results", ("training.exhibits",)),
        Room("programs", "train, learn, evaluate, curate, …", ("training",)),
        Room("curation", "TotalSeg++ and its review", ("training.curation",)),
        Room("evaluation", "methods, metrics, comparisons", ("training.evaluation",)),
        Room("learning", "Algorithm 1, the loop, losses", ("training.learning",)),
        Room("data", "data sets, samples, prepared cases", ("training.data",)),
        Room("phantoms", "synthetic patients", ("training.phantoms",)),
        Room(
            "common",
            "config, anatomy, vocabulary, parallel",
            tuple(f"training.{name}" for name in ("config", "anatomy", "vocabulary", "data.case_notes", "parallel")),
        ),
    ),
}
"""Blocks of rooms, the upper floor first: imports point down."""
FACADE = "CTSAM3DLib"
"""The public names. They belong to no room: `CTSAM3DLib.Volume` is a name of the room that defines it."""
Plan = dict[str, tuple[str, ...]]
"""For each room, as `block: room`, the rooms that it imports."""


def room_of(module: str) -> str | None:
    """The room of a dotted module or name; None for the façade and for packages of others."""
    found: tuple[int, str | None] = (0, None)
    for block, rooms in BLOCKS.items():
        for room in rooms:
            for prefix in room.modules:
                if f"{module}.".startswith(f"{prefix}.") and len(prefix) > found[0]:
                    found = (len(prefix), f"{block}: {room.name}")
    return found[1]


def files() -> Iterator[tuple[str, Path]]:
    """Every module of the code with its file."""
    for name, folder in SOURCES.items():
        top = ROOT / folder / name
        for path in sorted(top.rglob("*.py")) if top.is_dir() else []:
            yield ".".join(path.relative_to(ROOT / folder).with_suffix("").parts).removesuffix(".__init__"), path
        if top.with_suffix(".py").is_file():
            yield name, top.with_suffix(".py")


def imported(module: str, path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it the import stands."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def plan() -> Plan:
    """Which room imports which. Raises ValueError for a file without a room and for an import that points up."""
    order = [f"{block}: {room.name}" for block, rooms in BLOCKS.items() for room in rooms]
    arrows: dict[str, set[str]] = {room: set() for room in order}
    facade = {name.rpartition(".")[2]: name for name in imported(FACADE, ROOT / "CTSAM3D" / FACADE / "__init__.py")}
    for module, path in files():
        room = room_of(module)
        if room is None:
            if module == FACADE:
                continue
            raise ValueError(f"{module} lies in no room; add a room to BLOCKS in docs/floor_plan.py.")
        for name in imported(module, path):
            package, _, last = name.rpartition(".")
            target = room_of(facade.get(last, name) if package == FACADE else name)
            if target is None or target == room:
                continue
            same_block = room.partition(": ")[0] == target.partition(": ")[0]
            if same_block and order.index(target) < order.index(room):
                raise ValueError(f"{module} imports {name}, which lies on a floor above.")
            arrows[room].add(target)
    return {room: tuple(sorted(targets, key=order.index)) for room, targets in arrows.items()}


def as_text(arrows: Plan) -> str:
    """The plan in words, one room a line."""
    lines = ["Made by docs/floor_plan.py. Each room, and the rooms that it imports."]
    for block, rooms in BLOCKS.items():
        lines += ["", block]
        for room in rooms:
            names = [_short(target, block) for target in arrows[f"{block}: {room.name}"]]
            lines.append(f"  {room.name}: {', '.join(names) or '-'}")
    return "\n".join(lines) + "\n"


def _short(target: str, block: str) -> str:
    home, _, name = target.partition(": ")
    return name if home == block else f"{home.partition(',')[0]}/{name}"


# The picture

WIDTH, ROW, BOX, TOP, GAP = 300, 66, 44, 40, 150
INK, FAINT, PAPER = "#1f2933", "#52606d", "#ffffff"
COLOURS = {
    "CTSAM3DLib, the library": "#e3f1e6",
    "3D Slicer": "#fdeedd",
    "CTSAM3DServer": "#e2ecf8",
    "training": "#f1e6f5",
}
PLACES = {"CTSAM3DLib, the library": (0, 0), "3D Slicer": (1, 0), "CTSAM3DServer": (1, 4), "training": (2, 0)}
"""Column, and row of its title."""
EVERYWHERE = ("ground", "common")
"""Rooms that almost every other imports: the picture leaves their arrows out, the text has them."""
NOTE = ("An arrow leads from a room to one that it imports.", "→ names rooms of the library.",
        "Arrows to ground and common are left out.")  # fmt: skip


def as_svg(arrows: Plan) -> str:
    """The plan as a picture: arrows within a block are drawn; the rooms of the library that others import are named."""
    height = TOP + ROW * (1 + max(PLACES[block][1] + len(rooms) for block, rooms in BLOCKS.items()))
    width = 3 * WIDTH + 3 * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>',
    ]
    for index, line in enumerate(NOTE):
        x, y = 20 + 2 * (WIDTH + GAP), height - 90 + 18 * index
        parts.append(f'<text x="{x}" y="{y}" font-size="12" fill="{FAINT}">{line}</text>')
    for block, rooms in BLOCKS.items():
        column, row = PLACES[block]
        x, y = 20 + column * (WIDTH + GAP), TOP + row * ROW
        parts.append(f'<text x="{x}" y="{y}" font-size="17" font-weight="bold" fill="{INK}">{escape(block)}</text>')
        for index, room in enumerate(rooms):
            parts += _box(room, x, y + 16 + index * ROW, COLOURS[block], arrows[f"{block}: {room.name}"])
        parts += _arrows(x + WIDTH, y + 16, [f"{block}: {room.name}" for room in rooms], arrows)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(room: Room, x: int, y: int, colour: str, targets: tuple[str, ...]) -> list[str]:
    of_library = [name for block, _, name in (target.partition(": ") for target in targets) if "library" in block]
    box = [
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{BOX}" rx="6" fill="{colour}" stroke="{INK}"/>',
        f'<text x="{x + 10}" y="{y + 18}" font-size="14" font-weight="bold" fill="{INK}">{room.name}</text>',
        f'<text x="{x + 10}" y="{y + 35}" font-size="12" fill="{INK}">{escape(room.what)}</text>',
    ]
    named = ", ".join(name for name in of_library if name not in EVERYWHERE)
    if named and not room.modules[0].startswith("CTSAM3DLib."):
        box.append(f'<text x="{x + 2}" y="{y + BOX + 13}" font-size="10" fill="{FAINT}">→ {named}</text>')
    return box


def _arrows(x: int, y: int, rooms: list[str], arrows: Plan) -> list[str]:
    """Arcs at the right side of the boxes of one block; the longer the way down, the farther out."""
    pairs = [
        (upper, rooms.index(target))
        for upper, room in enumerate(rooms)
        for target in arrows[room]
        if target in rooms and target.partition(": ")[2] not in EVERYWHERE
    ]
    drawn = []
    for upper, lower in pairs:
        leaving = [pair for pair in pairs if pair[0] == upper]
        arriving = sorted((pair for pair in pairs if pair[1] == lower), reverse=True)
        start = y + upper * ROW + BOX * (len(leaving) - leaving.index((upper, lower))) / (len(leaving) + 1)
        end = y + lower * ROW + BOX * (1 + arriving.index((upper, lower))) / (len(arriving) + 1)
        out = x + 8 + 11 * (lower - upper) + 3 * upper
        colour = f"hsl({upper * 47 % 360},60%,36%)"
        drawn.append(
            f'<path d="M{x} {start:.1f}C{out} {start:.1f} {out} {end:.1f} {x + 2} {end:.1f}" '
            f'fill="none" stroke="{colour}" stroke-width="1.3" marker-end="url(#tip)"/>'
        )
    return drawn


def main() -> None:
    """Write picture and text."""
    arrows = plan()
    PICTURE.write_text(as_svg(arrows), encoding="utf-8", newline="\n")
    TEXT.write_text(as_text(arrows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
