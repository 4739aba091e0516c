"""The report of a curated folder: figures as JSON and CSV, and a page with pictures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from CTSAM3DLib.atomic import atomic_write
from training import anatomy
from training.curation.audit import OPEN, ReviewState
from training.curation.folder import CuratedCase, CuratedFolder, KeptOut, write_csv, write_json
from training.curation.review import current_cases

SHOWN = 3
"""Cases with pictures on the page: those with the most doubt."""
LISTED = 20
"""Cases and notes that the page lists; the queue has all."""
PAPER = (0.37, 0.83)
"""The annotated ratio of TotalSeg and of TotalSeg++ in the paper."""

Cases = Sequence[tuple[CuratedCase, ReviewState]]


def write_report(folder: CuratedFolder) -> dict[str, Any]:
    """Write report.json, report.md, labels.csv and their pictures; return the content of the first.

    The ratios are those of the whole data set: labelled voxels of all bodies over voxels of all bodies. Cases that
    were rejected do not count. Raises OutputError.
    """
    cases = [entry for entry in current_cases(folder) if entry[1].status != "rejected"]
    kept_out = folder.kept_out()
    content = _figures(folder, cases, kept_out)
    write_json(folder.root / "report.json", content)
    write_csv(folder.root / "labels.csv", ("value", "name", "category", "cases", "voxels"), _label_rows(cases))
    if cases:
        _draw_ratios(folder, [case for case, _ in cases])
    with atomic_write(folder.root / "report.md") as temporary:
        temporary.write_text("\n".join(_page(folder, content, cases, kept_out)) + "\n", encoding="utf-8")
    return content


def _figures(folder: CuratedFolder, cases: Cases, kept_out: Sequence[KeptOut]) -> dict[str, Any]:
    def ratio(labelled: str) -> float | None:
        body = sum(case.body_voxels for case, _ in cases)
        return round(sum(getattr(case, labelled) for case, _ in cases) / body, 4) if body else None

    statuses = Counter(state.status for _, state in current_cases(folder))
    return {
        "cases": len(cases),
        "quarantined": len(kept_out),
        "ratio_before": ratio("labelled_before"),
        "ratio_with_tissues": ratio("labelled_merged"),
        "ratio_after_clean_up": ratio("labelled_after"),
        "doubtful_voxels": sum(case.doubtful_voxels for case, _ in cases),
        "review": dict(sorted(statuses.items())),
        "labels_made_by": sorted({case.labels_made_by for case, _ in cases}),
        "licences": sorted({case.licence for case, _ in cases}),
    }


def _label_rows(cases: Cases) -> list[dict[str, Any]]:
    return [
        {
            "value": value,
            "name": name,
            "category": anatomy.category_of(name),
            "cases": sum(name in case.voxels for case, _ in cases),
            "voxels": sum(case.voxels.get(name, 0) for case, _ in cases),
        }
        for value, name in anatomy.EXTENDED.items()
    ]


def _page(folder: CuratedFolder, content: dict[str, Any], cases: Cases, kept_out: Sequence[KeptOut]) -> list[str]:
    lines = ["# Curation", "", f"{content['cases']} cases curated, {content['quarantined']} kept out.", ""]
    if cases:
        lines += _ratio_lines(content) + _category_lines(cases) + _picture_lines(folder, cases)
    if kept_out:
        lines += ["## Kept out", "", "| case | why | file |", "| --- | --- | --- |"]
        lines += [f"| {entry.case} | {entry.reason} | {entry.file} |" for entry in kept_out] + [""]
    noted = [(case.case, note) for case, _ in cases for note in case.notes]
    if noted:
        lines += ["## Odd, but used", "", "| case | what |", "| --- | --- |"]
        lines += [f"| {case} | {note} |" for case, note in noted[:LISTED]]
        lines += [f"| | and {len(noted) - LISTED} more; see queue.csv |"] * (len(noted) > LISTED) + [""]
    return lines[:-1]


def _ratio_lines(content: dict[str, Any]) -> list[str]:
    before, after = PAPER
    statuses = ", ".join(f"{number} {status}" for status, number in content["review"].items())
    return [
        "## Annotated ratio",
        "",
        "Labelled voxels over voxels of the body, without the table and what the scanner left at -1024 HU.",
        "",
        "| | this data set | the paper |",
        "| --- | --- | --- |",
        f"| own labels | {content['ratio_before']:.1%} | {before:.0%} |",
        f"| with tissues | {content['ratio_with_tissues']:.1%} | {after:.0%} |",
        f"| after clean-up and review | {content['ratio_after_clean_up']:.1%} | |",
        "",
        "![annotated ratio of each case](ratios.png)",
        "",
        f"Review: {statuses}. Made by: {'; '.join(content['labels_made_by'])}.",
        "",
        *[f"Licence: {licence}" for licence in content["licences"] if licence],
        "",
    ]


def _category_lines(cases: Cases) -> list[str]:
    members: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _label_rows(cases):
        members[row["category"] or "only in TotalSegmentator v2"].append(row)
    total = sum(case.body_voxels for case, _ in cases)
    lines = ["## Labels", "", "| category | labels | found | share of the body |", "| --- | --- | --- | --- |"]
    for category, rows in members.items():
        found, voxels = sum(row["cases"] > 0 for row in rows), sum(row["voxels"] for row in rows)
        lines.append(f"| {category} | {len(rows)} | {found} | {voxels / total:.1%} |")
    return [*lines, "", "Every label by itself: labels.csv.", ""]


def _picture_lines(folder: CuratedFolder, cases: Cases) -> list[str]:
    lines = ["## Cases with the most doubt", ""]
    order = sorted(cases, key=lambda entry: (entry[1].status != OPEN, -entry[0].doubtful_voxels))
    for case, state in order[:SHOWN]:
        picture = folder.relative(folder.overlay(case.case, state.edits))
        lines += [
            f"{case.case}: {case.doubtful_voxels} voxels in doubt, {state.status}.",
            "",
            f"![{case.case}]({picture})",
            "",
        ]
    return lines


def _draw_ratios(folder: CuratedFolder, cases: Sequence[CuratedCase]) -> None:
    """A dot a case before and after, cases ordered by the latter."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    order = sorted(cases, key=lambda case: case.ratio_after)
    places = range(1, len(order) + 1)
    before, after = [case.ratio_before for case in order], [case.ratio_after for case in order]
    axes.vlines(places, before, after, color="0.8")
    axes.plot(places, before, "o", color="#4c72b0", label="own labels")
    axes.plot(places, after, "o", color="#c44e52", label="curated")
    for ratio, color in zip(PAPER, ("#4c72b0", "#c44e52"), strict=True):
        axes.axhline(ratio, color=color, linestyle=":", linewidth=1)
    axes.set(
        xlabel="cases, by ratio; dotted: the paper's two",
        ylabel="annotated ratio",
        ylim=(0, 1),
        xlim=(0, len(order) + 1),
    )
    axes.set_xticks([])
    axes.legend(frameon=False, loc="lower right")
    with atomic_write(folder.root / "ratios.png") as temporary:
        figure.savefig(temporary, dpi=120)
