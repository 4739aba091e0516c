"""The command line: `ctsam3d segment`, `models`, `demo`, `serve` and `web`.

What a user can get wrong is said in one line on stderr, with exit code 2; an interrupted command ends with 130.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from CTSAM3DLib import __version__
from CTSAM3DLib.atomic import check_output
from CTSAM3DLib.clicks.click import CheckedClicks, Click, check_clicks, parse_click, to_lps
from CTSAM3DLib.clicks.markups import read_markups
from CTSAM3DLib.clicks.tables import ClicksBySegment, read_table
from CTSAM3DLib.errors import AfterMaskError, ClickError, CTSAM3DError, OutputError
from CTSAM3DLib.run_command import run_command

if TYPE_CHECKING:
    from CTSAM3DLib.imaging.volume import Volume
    from CTSAM3DLib.segmentation.growth import Reach
    from CTSAM3DLib.segmentation.result import Result

COMMANDS = "ctsam3d.commands"
"""The entry points of `serve` and `web`: Typer apps."""
TABLES = (".csv", ".tsv", ".txt")
MASK_FORMATS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha")

app = typer.Typer(
    help="Segment any structure in a CT by clicking on it. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # their listing of variables would print what belongs to a patient
)


def main() -> None:
    """Run the command line and end the process."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # the code page of a Windows console lacks some letters of a card
        sys.stdout.reconfigure(errors="replace")
    run_command(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ctsam3d {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Segment any structure in a CT by clicking on it. Not a medical device."""


@app.command()
def segment(
    ct: Annotated[Path, typer.Argument(help="NIfTI, NRRD, MetaImage or DICOM: a file, a folder or a zip.")],
    output: Annotated[
        Path, typer.Option(help="The mask: .seg.nrrd (with name, colour and how it was made) or .nii.gz, .nrrd, .mha.")
    ],
    click: Annotated[
        list[str] | None, typer.Option(metavar="X,Y,Z[,-]", help="A click; with ,- a negative one. Repeatable.")
    ] = None,
    markups: Annotated[
        Path | None, typer.Option(help="Clicks in a .mrk.json file of Slicer, or a table (.csv, .tsv).")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Which of several CT series, by its number in the list or its UID.")
    ] = None,
    coordinates: Annotated[str, typer.Option(help="What --click is given in: LPS or RAS mm, or IJK voxels.")] = "LPS",
    model: Annotated[str, typer.Option(help="A bundled model; see `ctsam3d models`.")] = "ctsam3d-small",
    weights: Annotated[str | None, typer.Option(help="A file of weights instead, such as params.pth.")] = None,
    window: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="HU window of the weights.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default the best there is.")] = None,
    reach: Annotated[
        str, typer.Option(help="How far the mask may grow: patch, neighbours or structure.")
    ] = "structure",
    name: Annotated[
        str | None, typer.Option(help="What the segment is called; by default as the point list, else 'structure'.")
    ] = None,
    preview: Annotated[Path | None, typer.Option(help="A .png with three planes of the CT and the mask.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Segment the structures that the clicks lie in; labels of points, or a table's column, tell structures apart."""
    check_output(output, MASK_FORMATS, instead_of=ct)
    if preview is not None:
        check_output(preview, (".png",))
    parsed = [parse_click(text) for text in click or []]
    named = _clicks_in(markups)

    # These import torch, which would slow down --help and every refusal above.
    from CTSAM3DLib.commands import console
    from CTSAM3DLib.imaging.volume import Volume
    from CTSAM3DLib.output import provenance
    from CTSAM3DLib.output.pictures import PALETTE, Overlay, three_planes
    from CTSAM3DLib.output.seg_nrrd import CroppedMask, Segment, write_masks
    from CTSAM3DLib.segmentation.session import Segmenter

    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        volume = Volume.read(ct, series=series)
    for note in volume.notes:
        typer.echo(f"note: {note}", err=True)
    typed = [Click(to_lps(position, coordinates, volume.geometry), positive) for position, positive in parsed]
    by_segment = {
        of: _checked(of, clicks, volume, is_one=len(named) < 2) for of, clicks in _together(named, typed, name).items()
    }
    segments = [Segment(of, n, PALETTE[(n - 1) % len(PALETTE)]) for n, of in enumerate(by_segment, start=1)]
    with _timed(seconds, "load_model"):
        segmenter = Segmenter.load(model, weights, device, window)
    session = segmenter.open(volume)
    results = []
    with _timed(seconds, "final_mask"), console.progress() as (progress, cancel):
        begun = time.perf_counter()

        def partial(result: Result) -> None:
            seconds.setdefault("first_mask", round(time.perf_counter() - begun, 3))
            progress(result)

        for checked in by_segment.values():
            results.append(session.segment(checked, cast("Reach", reach), partial, cancel))
        masks = [CroppedMask(*result.cropped) for result in results]
    with _timed(seconds, "write"):
        tagged = [
            replace(segment, tags=provenance.tags(result)) for segment, result in zip(segments, results, strict=True)
        ]
        write_masks(masks, volume.geometry, output, tagged)
    with _after_the_mask(output):
        of_all = {"device": segmenter.engine.device, "seconds": seconds}
        reports = [
            {"output": str(output), "name": segment.name, **provenance.report(result), **of_all}
            for segment, result in zip(segments, results, strict=True)
        ]
        if as_json:
            typer.echo(json.dumps(reports[0] if len(reports) == 1 else {"output": str(output), "segments": reports}))
        else:
            for report in reports:
                Console(highlight=False).print(console.summary(report, volume.geometry.spacing))
        if preview is not None:
            overlays = [Overlay(r.mask, s.name, s.color) for r, s in zip(results, segments, strict=True)]
            three_planes(volume, overlays, [click for clicks in by_segment.values() for click in clicks], preview)


@app.command()
def models(
    card: Annotated[str | None, typer.Option(metavar="NAME", help="Print the card of this model.")] = None,
) -> None:
    """List the bundled models, or print the card of one."""
    from CTSAM3DLib.checkpoints.bundled import bundled_models
    from CTSAM3DLib.checkpoints.load_model import load_model

    if card is not None:
        typer.echo(load_model(card).info.card)
        return
    table = Table()
    for heading in ("model", "size", "HU window", "structures", "licence", "hash"):
        table.add_column(heading, no_wrap=True)
    for name, path in bundled_models().items():
        model = load_model(name)
        low, high = model.info.window
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        structures = str(len(model.info.labels))
        table.add_row(name, size, f"{low:g} to {high:g}", structures, model.info.licence, model.file_hash[:8])
    Console().print(table)


@app.command()
def demo(
    ct: Annotated[Path | None, typer.Argument(help="A CT with --labels; default a synthetic torso.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A label map of the CT.")] = None,
    output: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another synthetic patient.")] = 0,
    clicks: Annotated[int, typer.Option(min=1, help="Clicks at each structure.")] = 5,
) -> None:
    """Click at five structures whose truth is known, and show how close the masks come."""
    from CTSAM3DLib.commands.demo import labelled_case, phantom_case, run

    if ct is not None and labels is None:
        raise CTSAM3DError("A demo on a CT needs its label map as --labels; without one, use ctsam3d segment.")
    if ct is None and labels is not None:
        raise CTSAM3DError("The label map needs its CT; write: ctsam3d demo CT --labels LABELS.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {output} cannot be made ({error.strerror}); choose another.") from error
    check_output(output / "demo.seg.nrrd", MASK_FORMATS)
    case = phantom_case(seed) if ct is None or labels is None else labelled_case(ct, labels)
    with Console(stderr=True).status("") as status:
        table = run(case, output, clicks, status.update)
    Console().print(table)
    typer.echo(f"The masks, their picture and this table lie in {output}.")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(context: typer.Context) -> None:
    """Serve segmentation to Slicer and scripts, on this computer or on others; see `ctsam3d serve --help`."""
    _command("serve")(context.args, prog_name="ctsam3d serve")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def web(context: typer.Context) -> None:
    """Segment in a browser: serve a page on this computer and open it; see `ctsam3d web --help`."""
    _command("web")(context.args, prog_name="ctsam3d web")


def _command(name: str) -> Callable[..., object]:
    """A command of a package above this library, which registers itself as an entry point of the distribution."""
    for entry_point in entry_points(group=COMMANDS, name=name):
        command: Callable[..., object] = entry_point.load()
        return command
    raise CTSAM3DError(f"`ctsam3d {name}` is not installed; install CT-SAM3D by pip, and the command comes with it.")


def _clicks_in(file: Path | None) -> ClicksBySegment:
    """The clicks of a markups file or a table by segment; none without a file. Raises ClickError."""
    if file is None:
        return {}
    return read_table(file) if file.suffix.lower() in TABLES else read_markups(file)


def _together(named: ClicksBySegment, typed: list[Click], name: str | None) -> ClicksBySegment:
    """The clicks by segment: those of a file, and those typed, which join the file's segment where it has one."""
    if not named:
        return {name or "structure": typed}
    if len(named) == 1:
        ((own, clicks),) = named.items()
        return {name or own or "structure": [*clicks, *typed]}
    if name is None and typed:
        raise ClickError("The file has several segments; say by --name which one the clicks of --click belong to.")
    return named | ({name: [*named.get(name, []), *typed]} if name is not None and typed else {})


def _checked(name: str, clicks: list[Click], volume: Volume, is_one: bool) -> CheckedClicks:
    """The clicks of a segment, checked. Raises ClickError, which names the segment where there are several."""
    try:
        return check_clicks(clicks, volume.geometry)
    except ClickError as error:
        raise ClickError(str(error) if is_one else f"{name}: {error}") from error


@contextmanager
def _after_the_mask(output: Path) -> Iterator[None]:
    """Whatever fails now, a closed output or a font, the mask is there, and the user is told so."""
    try:
        yield
    except Exception as error:
        raise AfterMaskError(f"{output} is written, but what comes after it failed: {error}") from error


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - begun, 3)
