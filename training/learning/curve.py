"""The learning curve of a run: a CSV that a resumed run continues."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def curve_writer(file: Path, columns: Sequence[str], step: int) -> Iterator[Any]:
    """A CSV writer positioned after the rows of earlier steps; the first column is the step.

    Rows of `step` and later steps, lost when a run was killed after its checkpoint, are removed.
    """
    kept = file.read_text(encoding="utf-8").splitlines()[1:] if file.is_file() else []
    with file.open("w", newline="", encoding="utf-8", buffering=1) as opened:
        writer = csv.writer(opened)
        writer.writerow(columns)
        writer.writerows(line.split(",") for line in kept if int(line.split(",")[0]) < step)
        yield writer
