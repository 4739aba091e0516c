"""Links of the pages that lead out of `docs/`, such as ../README.md: on the site they lead into the repository."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

_OUTSIDE = re.compile(r"\]\(((?:\.\./)+)([^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Called by MkDocs for each page, before it becomes HTML."""
    folders = len(PurePosixPath(page.file.src_uri).parts) - 1

    def in_repository(link: re.Match[str]) -> str:
        if link[1].count("../") <= folders:
            return link[0]  # to another page
        return f"]({config.repo_url}/blob/main/{link[2]})"

    return _OUTSIDE.sub(in_repository, markdown)
