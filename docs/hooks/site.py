"""Additions to MkDocs: pages that lie above docs/, links to them, and every decision record in the navigation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
#: Pages in the repository's root, and their names on the site.
ABOVE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "README.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the names of files where the navigation has a pattern, so that a new decision record needs no line there."""
    config.nav = _expanded(config.nav)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie above docs/."""
    for source, name in ABOVE.items():
        if name not in files.src_uris:
            text = (ROOT / source).read_text("utf-8").replace("](docs/", "](")
            files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Change links that leave docs/ to the pages of the site. Links to files that the site does not have become plain text."""
    internal = re.sub(r"\]\(\.\./([A-Z]+\.md)", lambda link: f"]({ABOVE[link[1]]}", markdown)
    return re.sub(r"\[([^\]]*)\]\(\.\./(?:examples|src|tests|deploy|bench)\b[^)]*\)", r"\1", internal)


def on_page_content(html: str, **_: Any) -> str:
    """Show `a|b` in a table's code as the viewer of a repository does, where the bar needs a backslash before it."""
    return re.sub(r"<td.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)


def _expanded(nav: Any) -> Any:
    if isinstance(nav, list):
        return [_expanded(entry) for entry in nav]
    if isinstance(nav, dict):
        return {title: _expanded(below) for title, below in nav.items()}
    if nav.endswith("/*"):
        return sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob(f"{nav}.md"))
    return nav
