"""Results by region of the body or by group of classes: regions of cases, means, and tables.

A results file does not name regions; the data set that was measured does, case by case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from training.data.datasets import CaseRecord
from training.evaluation.selection import group_of_label

REGIONS: Mapping[str, tuple[str, ...]] = {
    "head-neck": ("head-neck",),
    "chest": ("chest",),
    "abdomen": ("abdomen", "torso"),
    "limbs": ("limbs",),
}
"""Region of a comparison to regions of a data set."""
MEAN_OF_REGIONS = "mean of regions"
BY = ("region", "group")
NSD_AT = (3, 5)
"""Numbers of clicks for which tables show NSD at 2 mm."""
_KEYS = ["structures", "patients"]


def region_of(record: CaseRecord) -> str:
    """The region under which a case is compared: a torso counts as an abdomen, any other region as in the data set."""
    return next((region for region, held in REGIONS.items() if record.region in held), record.region)


def located(lines: pd.DataFrame, records: Iterable[CaseRecord]) -> pd.DataFrame:
    """Rows of results with `region` ("" if unknown), `patient`, and the `group` of their class."""
    found = {record.case: record for record in records}
    regions = {case: region_of(record) for case, record in found.items()}
    patients = {case: record.patient or case for case, record in found.items()}
    return lines.assign(
        region=lines["case"].map(regions).fillna(""),
        patient=lines["case"].map(patients).fillna(lines["case"]),
        group=lines["label"].map(group_of_label),
    )


def means(lines: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means over structures, a row for each value of `by` and each run: `located` lines by `region` or `group`.

    Columns: `by`, run, structures, patients, "Dice @N" for each count of clicks, and "NSD @N" for those of `NSD_AT`.
    """
    counts = sorted(lines["n_clicks"].unique())
    rows = []
    for (value, run), found in lines.groupby([by, "run"], sort=False):
        scores = found.groupby("n_clicks")[["dsc", "nsd_2"]].mean()
        rows.append(
            {by: value or "not said", "run": run}
            | {"structures": len(found.groupby(["dataset", "case", "label"])), "patients": found["patient"].nunique()}
            | {f"Dice @{count}": scores["dsc"].get(count) for count in counts}
            | {f"NSD @{count}": scores["nsd_2"].get(count) for count in NSD_AT if count in counts}
        )
    rows_of = {row[by] for row in rows}
    places = {value: place for place, value in enumerate(dict.fromkeys((*REGIONS, *sorted(rows_of))))}
    return pd.DataFrame(rows).sort_values(by, key=lambda found: found.map(places), kind="stable", ignore_index=True)


def with_mean_of_regions(table: pd.DataFrame) -> pd.DataFrame:
    """The `means` by region, with the unweighted mean over `REGIONS` for each run."""
    compared = table[table["region"].isin(list(REGIONS))]
    sums = compared.groupby("run", sort=False)[_KEYS].sum()
    scores = compared.drop(columns=["region", *_KEYS]).groupby("run", sort=False).mean()
    row = sums.join(scores).reset_index().assign(region=MEAN_OF_REGIONS)
    return pd.concat([table, row[list(table.columns)]], ignore_index=True)


def as_table(table: pd.DataFrame) -> Table:
    """The means as a table of at most 80 columns for a terminal: n structures of pat. patients."""
    drawn = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in table.columns:
        head = {"structures": "n", "patients": "pat."}.get(str(column), str(column).replace(" @", "@"))
        names = str(column) in ("run", *BY)  # they may be broken, figures may not
        drawn.add_column(head, justify="left" if names else "right", overflow="fold", no_wrap=not names)
    for row in _rows(table):
        drawn.add_row(*row)
    return drawn


def as_markdown(table: pd.DataFrame) -> list[str]:
    """The means as a Markdown table."""
    heads = [str(column) for column in table.columns]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *_rows(table))]


def _rows(table: pd.DataFrame) -> list[Sequence[str]]:
    return [
        [(f"{value:.3f}" if value == value else "-") if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
