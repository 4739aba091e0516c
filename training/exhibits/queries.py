"""Queries of tables over scores, and published figures, as cells with the same columns.

An answer is a data frame of cells: `system`, `column` (what is measured: an organ, a data set, "mean"), `clicks`,
`metric` (dsc or nsd), `value` and `sd` in percent, `cases`, and `source`, which is "measured" or the citation of a
published figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from training.exhibits.study import METRICS, System

CELLS = ("system", "column", "clicks", "metric", "value", "sd", "cases", "source")
MEASURED = "measured"
PUBLISHED_FILE = Path(__file__).resolve().parents[1] / "published.csv"


@dataclass(frozen=True)
class Query:
    """Some structures of a data set after a count of clicks, as one column of a table.

    Attributes:
        column: what the column is called in cells and among the published figures.
        labels: names of the structures; the answer is the mean over them of their means over cases.
        compared: whether systems are compared by this column.

    """

    column: str
    dataset: str
    labels: tuple[str, ...]
    clicks: int
    compared: bool = False

    def rows(self, scores: pd.DataFrame, system: System) -> pd.DataFrame:
        """The scores that the result for a system is computed from."""
        return scores[
            (scores["run"] == system.run)
            & (scores["dataset"] == self.dataset)
            & (scores["n_clicks"] == self.clicks)
            & scores["label"].isin(self.labels)
        ]

    def answer(self, scores: pd.DataFrame, system: System) -> Iterable[dict[str, object]]:
        """A cell for each metric, with the deviation over cases where the query is of one structure.

        There is none where nothing was measured.
        """
        rows = self.rows(scores, system)
        if rows.empty:
            return
        for metric in METRICS:
            yield {
                "system": system.name,
                "column": self.column,
                "clicks": self.clicks,
                "metric": metric,
                "value": macro_mean(rows, metric),
                "sd": rows[metric].std() if len(self.labels) == 1 else float("nan"),
                "cases": rows["case"].nunique(),
                "source": MEASURED,
            }

    def by_case(self, scores: pd.DataFrame, one: System, other: System, metric: str) -> pd.DataFrame:
        """The means of each case over the structures that both systems were measured at, columns `one` and `other`."""
        return pair(self.rows(scores, one), self.rows(scores, other), metric)


def macro_mean(rows: pd.DataFrame, metric: str) -> float:
    """The paper's mean: over structures, of each one's mean over cases."""
    return float(rows.groupby("label")[metric].mean().mean())


def pair(one: pd.DataFrame, other: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The means of each case over the structures in both, columns `one` and `other`, one row a case."""
    structure = ["case", "label"]
    both = one[[*structure, metric]].merge(other[[*structure, metric]], on=structure, suffixes=("_one", "_other"))
    return both.groupby("case").agg(one=(f"{metric}_one", "mean"), other=(f"{metric}_other", "mean"))


def measured(queries: Sequence[Query], scores: pd.DataFrame, systems: Sequence[System]) -> pd.DataFrame:
    """The cells of the queries for each system."""
    answers = [cell for system in systems for query in queries for cell in query.answer(scores, system)]
    return pd.DataFrame(answers, columns=list(CELLS))


def published(exhibit: str, path: Path = PUBLISHED_FILE) -> pd.DataFrame:
    """The figures that the paper gives in an exhibit, as cells; clicks are 0 where a system takes none."""
    figures = pd.read_csv(path)
    figures = figures[figures["exhibit"] == exhibit].drop(columns="exhibit")
    spread = figures["metric"].str.endswith("_std")
    deviations = figures[spread].assign(metric=figures["metric"].str.removesuffix("_std"))
    known_by = ["system", "column", "clicks", "metric"]
    deviations = deviations.rename(columns={"value": "sd"})[[*known_by, "sd"]]
    cells = figures[~spread].merge(deviations, on=known_by, how="left").assign(cases=pd.NA)
    return cells[list(CELLS)]
