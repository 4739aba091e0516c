"""What every test relies on: markers by folder, real CTs or a line that says they are absent, and the locale."""

import locale
from collections.abc import Iterator
from pathlib import Path

import pytest

from Testing.support.data import DATA, is_there

TESTING = Path(__file__).parent
MARKER_OF_FOLDER = {"web": "web", "server": "server"}
"""Folders whose tests all need a browser, or start a server."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and skip those whose real CTs are absent."""
    for item in items:
        folder = item.path.relative_to(TESTING).parts[0]
        if folder in MARKER_OF_FOLDER:
            item.add_marker(MARKER_OF_FOLDER[folder])
        names = [name for marker in item.iter_markers("data") for name in marker.args]
        if item.get_closest_marker("data") and not is_there(*names):
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(names) or 'real CTs'} in {DATA}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once when the tests of real CTs were left out."""
    if not is_there():
        terminalreporter.write_line(f"No real CTs in {DATA}, so their tests were skipped (CTSAM3D_TEST_DATA).")


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """GDCM leaves a process that wrote DICOM in the C locale, in which Python takes text files for ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    if locale.setlocale(locale.LC_CTYPE) != before:
        locale.setlocale(locale.LC_CTYPE, before)
