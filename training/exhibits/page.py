"""Write every exhibit: a page in Markdown, each table as CSV, each figure as PNG and PDF.

Below each exhibit stands what it was made from; published figures carry a dagger wherever they are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from CTSAM3DLib.atomic import atomic_write
from training.evaluation.results import Failure
from training.exhibits import costs
from training.exhibits.catalogue import TABLES
from training.exhibits.figures import Drawn, main_figures, supplementary_figures
from training.exhibits.material import Material
from training.exhibits.queries import MEASURED
from training.exhibits.style import house_style, save
from training.exhibits.tables import DAGGER, TableSpec, comparisons_markdown, to_markdown

PAGE = "exhibits.md"
NOTHING = "Nothing was measured for this exhibit."
PREFACE = f"""# Tables and figures

{DAGGER} marks what the paper published, on its own data and with its own weights; it was not measured here, and cannot
be compared with what was unless the data are the same. All else comes from the results of this study. DSC and NSD are
in percent; NSD is that of DeepMind's `surface-distance` at 5 mm. Paired comparisons take a case's mean over structures
as one number: median difference with its 95 % interval (10,000 bootstrap resamples of the cases), Wilcoxon signed-rank
test, and its p corrected by Holm over the exhibit."""
FOOTER_WIDTH = 160
"""Letters of a line below a figure."""


def write_all(output: Path, material: Material, failures: Sequence[Failure] = ()) -> Path:
    """Write all exhibits into a folder and return their page.

    Raises OutputError, and CTSAM3DError for spoilt pictured cases.
    """
    output.mkdir(parents=True, exist_ok=True)
    tables = {spec.name: _table(output, spec, material) for spec in TABLES}
    with house_style():
        main = [_figure(output, drawn, material) for drawn in main_figures(material)]
        supplementary = [_figure(output, drawn, material) for drawn in supplementary_figures(material)]
    configuration = _costs(output, material, 1, "the network and its training", costs.configuration(material.costs))
    efficiency = _costs(output, material, 4, "what a patch costs", costs.efficiency(material.costs))
    automatic = tables.pop("supplementary2")
    sections = [PREFACE, *tables.values(), *main, configuration, automatic, efficiency, *supplementary]
    with atomic_write(output / PAGE) as temporary:
        temporary.write_text("\n\n".join([*sections, *_failed(failures)]) + "\n", encoding="utf-8")
    return output / PAGE


def _table(output: Path, spec: TableSpec, material: Material) -> str:
    cells = spec.cells(material.scores, material.study)
    compared = spec.comparisons(material.scores, material.study)
    _write_csv(cells, output / f"{spec.name}.csv")
    _write_csv(compared, output / f"{spec.name}-comparisons.csv")
    measured = set(cells.loc[cells["source"] == MEASURED, "system"])
    systems = [system for system in material.study.shown_in(spec.name) if system.name in measured]
    citations = sorted(set(cells["source"]) - {MEASURED})
    made_from = material.made_from(systems, list(dict.fromkeys(query.dataset for query in spec.queries)))
    return _section(
        spec.title,
        spec.note,
        to_markdown(spec, cells),
        comparisons_markdown(compared),
        _listed(made_from) if measured else NOTHING,
        f"{DAGGER} {'; '.join(citations)}." if citations else "",
    )


def _figure(output: Path, drawn: Drawn, material: Material) -> str:
    """Save a figure, with what it was made from below it, and return its section."""
    if drawn.figure is None:
        return _section(drawn.title, NOTHING)
    made_from = material.made_from(drawn.systems, drawn.datasets)
    footer = "\n".join(line for text in made_from for line in textwrap.wrap(text, FOOTER_WIDTH))
    drawn.figure.supxlabel(footer, fontsize=6, x=0.01, ha="left")
    save(drawn.figure, output / f"{drawn.name}.png")
    if drawn.comparisons is not None:
        _write_csv(drawn.comparisons, output / f"{drawn.name}-comparisons.csv")
    return _section(drawn.title, drawn.note, f"![{drawn.title}]({drawn.name}.png)", _listed(made_from))


def _costs(output: Path, material: Material, number: int, title: str, table: str) -> str:
    _write_csv(costs.cells(f"supplementary{number}", material.costs), output / f"supplementary{number}.csv")
    note = (
        "Operations are multiply-adds of one patch; measured with untrained weights by "
        "`training.evaluation.efficiency`."
    )
    source = f"{DAGGER} Guo et al., arXiv:2403.15063, supplementary Table {number}."
    return _section(f"Supplementary Table {number}: {title}", note, table, source)


def _failed(failures: Sequence[Failure]) -> list[str]:
    if not failures:
        return []
    lines = [f"{one.case} of {one.dataset}, {one.method}: {one.reason}" for one in failures]
    return [_section("Cases that failed", "They are in none of the figures above.", _listed(lines))]


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *(part for part in parts if part)])


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
