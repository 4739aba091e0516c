"""Tables of the paper: their queries, and rendering as Markdown and CSV.

What was measured stands first; what the paper published stands below it under a heading of its own, in italics and
with a dagger, so that the two are never read as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from training.exhibits.queries import MEASURED, Query, measured, published
from training.exhibits.statistics import Paired, holm, paired
from training.exhibits.study import METRICS, Study

SIGNS = {"dsc": "DSC", "nsd": "NSD"}
DAGGER = "†"
NOT_MEASURED = "-"


@dataclass(frozen=True)
class TableSpec:
    """A table whose rows are systems and whose columns are queries.

    Attributes:
        name: also of its files, and of the exhibit among the published figures.
        by_metric: whether Dice and NSD are tables of their own one below the other, or columns side by side.
        note: what has to be known to read it.

    """

    name: str
    title: str
    queries: tuple[Query, ...]
    by_metric: bool = False
    note: str = ""

    def cells(self, scores: pd.DataFrame, study: Study) -> pd.DataFrame:
        """Measured and published cells, in the columns of `training.exhibits.queries`."""
        own = measured(self.queries, scores, study.shown_in(self.name))
        figures = published(self.name)
        asked = {(query.column, clicks) for query in self.queries for clicks in (query.clicks, 0)}
        answered = [pair in asked for pair in zip(figures["column"], figures["clicks"], strict=True)]
        return pd.concat([frame for frame in (own, figures[answered]) if len(frame)], ignore_index=True)

    def comparisons(self, scores: pd.DataFrame, study: Study) -> pd.DataFrame:
        """The pairs of the study by every compared query; p-values are corrected over the table."""
        rows = []
        queries = [query for query in self.queries if query.compared]
        for query, (one, other), metric in product(queries, study.pairs(self.name), METRICS):
            cases = query.by_case(scores, one, other, metric)
            if len(cases):
                result = paired((cases["one"] - cases["other"]).to_numpy())
                compared = {"system": one.name, "other": other.name, "column": query.column}
                rows.append({**compared, "clicks": query.clicks, "metric": metric, **vars(result)})
        found = pd.DataFrame(rows, columns=["system", "other", "column", "clicks", "metric", *Paired.__annotations__])
        return found.assign(p_holm=holm(found["p"].to_numpy(float)))


def to_markdown(spec: TableSpec, cells: pd.DataFrame) -> str:
    """The table, or one for each metric."""
    parts = [(metric,) for metric in METRICS] if spec.by_metric else [tuple(METRICS)]
    return "\n\n".join(_part(spec, cells[cells["metric"].isin(metrics)], metrics) for metrics in parts)


def _part(spec: TableSpec, cells: pd.DataFrame, metrics: Sequence[str]) -> str:
    columns = [(query, metric) for query in spec.queries for metric in metrics]
    own, figures = cells[cells["source"] == MEASURED], cells[cells["source"] != MEASURED]
    best = {
        (query, metric): _of(own, query, metric)["value"].max() if own["system"].nunique() > 1 else np.nan
        for query, metric in columns
    }
    rows = [["", *(_heading(spec, query, metric) for query, metric in columns)]]
    for block, written in ((own, _measured_cell), (figures, _published_cell)):
        if block is figures and len(figures):
            rows.append([f"*published by the paper, on its data* {DAGGER}", *("" for _ in columns)])
        for system in block["system"].drop_duplicates():
            row = [f"{system}" if block is own else f"*{system}* {DAGGER}"]
            for key in columns:
                cell = _of(block[block["system"] == system], *key)
                row.append(written(cell.iloc[0], best[key]) if len(cell) else NOT_MEASURED)
            rows.append(row)
        if block is own and own.empty:
            rows.append(["*nothing measured*", *(NOT_MEASURED for _ in columns)])
    return markdown_table(rows)


def _heading(spec: TableSpec, query: Query, metric: str) -> str:
    clicks = "" if len({asked.clicks for asked in spec.queries}) == 1 else f" @{query.clicks}"
    return f"{query.column.replace('_', ' ')}{clicks} {SIGNS[metric]}"


def _of(cells: pd.DataFrame, query: Query, metric: str) -> pd.DataFrame:
    """The cells of a column; automatic systems, which take no clicks, are published with 0."""
    return cells[
        (cells["column"] == query.column) & cells["clicks"].isin((query.clicks, 0)) & (cells["metric"] == metric)
    ]


def _measured_cell(cell: pd.Series, best: float) -> str:
    text = number(cell["value"], cell["sd"])
    return f"**{text}**" if cell["value"] == best else text


def _published_cell(cell: pd.Series, best: float) -> str:
    return f"*{number(cell['value'], cell['sd'])}*"


def number(value: float, deviation: float = np.nan) -> str:
    """A percentage, with its deviation where there is one."""
    return f"{value:.1f}" if np.isnan(deviation) else f"{value:.1f} ± {deviation:.1f}"


def comparisons_markdown(found: pd.DataFrame) -> str:
    """The paired comparisons of an exhibit; "" where there are none."""
    if found.empty:
        return ""
    rows = [["", "clicks", "cases", "median difference (95 % interval)", "p", "p (Holm)"]]
    for _, row in found.iterrows():
        what = f"{row['system']} less {row['other']}, {row['column'].replace('_', ' ')} {SIGNS[row['metric']]}"
        span = NOT_MEASURED if np.isnan(row["low"]) else f"{row['low']:+.1f} to {row['high']:+.1f}"
        p_values = [NOT_MEASURED if np.isnan(row[p]) else f"{row[p]:.2g}" for p in ("p", "p_holm")]
        rows.append([what, str(row["clicks"]), str(row["cases"]), f"{row['difference']:+.1f} ({span})", *p_values])
    return markdown_table(rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head; figures are set to the right."""
    head, *body = rows
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))
