"""What every test relies on."""

import locale
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """GDCM leaves a process that wrote DICOM in the C locale, in which Python takes text files for ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    if locale.setlocale(locale.LC_CTYPE) != before:
        locale.setlocale(locale.LC_CTYPE, before)
