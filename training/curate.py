"""Curate TotalSeg++ from TotalSegmentator: label tissues in unlabelled voxels, and review by people.

    python -m training.curate SOURCE --output FOLDER --tissues rules|totalsegmentator|FOLDER
    python -m training.curate review accept|reject|import ... --output FOLDER
    python -m training.curate agreement SOURCE --tissues rules --reference FOLDER

SOURCE is a data set in any layout of `training.data.datasets`. A stopped run is resumed: a case is done when its record
in FOLDER/cases is there, which is written last. Cases that cannot be used are listed in FOLDER/quarantine.csv.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from CTSAM3DLib.errors import CTSAM3DError, OutputError
from CTSAM3DLib.run_command import run_command
from training.curation.agreement import agreement_table
from training.curation.audit import AuditLog, Decision
from training.curation.case import curate_case
from training.curation.defects import Defect
from training.curation.folder import CuratedFolder, KeptOut
from training.curation.report import write_report
from training.curation.review import adopt_decisions, decide, import_corrected, write_dataset, write_queue
from training.curation.tissues import CHOICES, provider_for
from training.data.datasets import CaseRecord, read_dataset
from training.parallel import parallel_map

Source = Annotated[Path, typer.Argument(help="A data set in any layout of training.data.datasets.")]
Output = Annotated[Path, typer.Option(help="The curated folder.")]
Reviewer = Annotated[str, typer.Option(help="Who decides, for the audit log.", default_factory=getpass.getuser)]
Cases = Annotated[list[str] | None, typer.Option(help="Cases to use; default all. May be repeated.")]
LicenceKey = Annotated[
    str | None, typer.Option(envvar="TOTALSEGMENTATOR_LICENSE", help="Of TotalSegmentator, where it has none yet.")
]
review = typer.Typer(
    help="Decide on curated cases, and take corrections back.", no_args_is_help=True, add_completion=False
)


def curate(
    source: Source,
    output: Output,
    tissues: Annotated[str, typer.Option(help=f"Where tissues come from: {CHOICES}.")],
    case: Cases = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cases at a time on this computer.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask cluster instead, tcp://HOST:8786.")] = None,
    license_number: LicenceKey = None,
) -> None:
    """Curate a data set into a folder, or go on with it, and write its queue and its report.

    For people's part see: curate review --help. For how well tissues agree with others: curate agreement --help.
    """
    provider = provider_for(tissues, license_number)
    everything = read_dataset(source.resolve(), with_defects=True)
    records = chosen(everything, case)
    folder = CuratedFolder(output.resolve())
    folder.prepare()
    adopt_decisions(folder, getpass.getuser())
    reviewed = AuditLog(folder.audit).states()
    common = {name for record in everything if record.mask_files for name in record.labels.values()}
    tasks = [(record, folder.root, provider, lacking(record, common), record.case in reviewed) for record in records]
    kept_out = []
    done = parallel_map(curate_case, tasks, jobs, scheduler)
    for (record, *_), result in track(done, "curating", len(tasks), console=Console(stderr=True)):
        if isinstance(result, OutputError):
            raise result
        if isinstance(result, CTSAM3DError):
            kept_out.append(KeptOut(record.case, str(result), result.file if isinstance(result, Defect) else ""))
    names = {record.case for record in records}
    folder.write_kept_out([*kept_out, *(entry for entry in folder.kept_out() if entry.case not in names)])
    Console().print(summary(write_all(folder), kept_out))


def chosen(records: Sequence[CaseRecord], cases: Sequence[str] | None) -> list[CaseRecord]:
    """The records of these cases, all where none is given. Raises CTSAM3DError where there is no such case."""
    if unknown := sorted(set(cases or ()) - {record.case for record in records}):
        raise CTSAM3DError(f"The data set has no case {', '.join(unknown)}; see its list of cases.")
    return [record for record in records if not cases or record.case in cases]


def lacking(record: CaseRecord, common: set[str]) -> list[str]:
    """Structures with masks in this data set that the case has no mask of."""
    return sorted(common - set(record.labels.values())) if record.mask_files else []


def write_all(folder: CuratedFolder) -> dict[str, Any]:
    """Write what depends on all cases, and return the figures of the report."""
    write_dataset(folder)
    write_queue(folder)
    return write_report(folder)


def summary(content: dict[str, Any], kept_out: Sequence[KeptOut]) -> Table:
    """The figures of the report, and what was kept out in this run."""
    table = Table(box=SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("cases", f"{content['cases']} curated, {content['quarantined']} kept out")
    if content["cases"]:
        table.add_row("own labels", f"{content['ratio_before']:.1%} of the body")
        table.add_row("with tissues", f"{content['ratio_with_tissues']:.1%}")
        table.add_row("after clean-up", f"{content['ratio_after_clean_up']:.1%}")
        table.add_row("in doubt", f"{content['doubtful_voxels']} voxels")
    for entry in kept_out:
        table.add_row(f"kept out: {entry.case}", entry.reason)
    return table


@review.command()
def accept(case: str, output: Output, reviewer: Reviewer) -> None:
    """Accept a case as it is."""
    _finish(output, decide(CuratedFolder(output), case, "accepted", reviewer))


@review.command()
def reject(
    case: str, output: Output, reviewer: Reviewer, reason: Annotated[str, typer.Option(help="Why.")] = ""
) -> None:
    """Reject a case; it is then not part of the data set."""
    _finish(output, decide(CuratedFolder(output), case, "rejected", reviewer, reason))


@review.command("import")
def import_(
    case: str,
    output: Output,
    reviewer: Reviewer,
    file: Annotated[Path | None, typer.Argument(help="Corrected labels; default the case's own .seg.nrrd.")] = None,
) -> None:
    """Take corrected labels of a case."""
    folder = CuratedFolder(output)
    _finish(output, import_corrected(folder, case, file or folder.segmentation(case), reviewer))


def _finish(output: Path, decision: Decision) -> None:
    write_all(CuratedFolder(output))
    changes = [f"{name} +{gained} -{lost}" for name, (gained, lost) in decision.changed.items()]
    typer.echo(f"{decision.case} {decision.action} by {decision.who}. {'; '.join(changes)}".strip())


def agreement(
    source: Source,
    reference: Annotated[Path, typer.Option(help="A folder of masks of tissues to compare with.")],
    tissues: Annotated[str, typer.Option(help=f"What to compare: {CHOICES}.")] = "rules",
    case: Cases = None,
    license_number: LicenceKey = None,
) -> None:
    """Print the Dice of tissues against those of a folder, tissue by tissue."""
    records = chosen(read_dataset(source), case)
    ours, theirs = provider_for(tissues, license_number), provider_for(str(reference))
    typer.echo(f"{ours.made_by}, against {theirs.made_by}")
    Console().print(agreement_table(records, ours, theirs))


def main(arguments: Sequence[str]) -> None:
    """Choose among the commands; without the name of one, the data set is curated."""
    name, rest = arguments[0] if arguments else "", list(arguments)
    if name == "review":
        review(rest[1:], prog_name="curate review")
        return
    command = typer.Typer(add_completion=False)
    command.command()(agreement if name == "agreement" else curate)
    command(rest[1:] if name == "agreement" else rest, prog_name="curate")


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
