"""Adapt the project's Markdown to the documentation site; MkDocs calls these functions.

The pages are written for GitHub. README.md and the other pages in the project's folder join the site, links between
pages follow them, and links to other files of the project become plain text, as the site does not hold those.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parent.parent
# The site's names of the pages that lie in the project's folder.
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?:|#)([^)#]*)(#[^)]*)?\)")
FOREIGN = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc="?(?:https?:)?//[^>]*>|<link\b[^>]*\bhref="?(?:https?:)?//[^>]*>"""
)
LIST_OR_TABLE = re.compile(r"(?P<dash>- )|(?P<star>\* )|(?P<number>\d+\. )|(?P<table>\|)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages of the project's folder."""
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(PROJECT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Rewrite links, and add the blank lines that Python-Markdown needs and GitHub does not."""
    folder = "" if page.file.src_uri in ROOT_PAGES.values() else "docs"
    return separate_blocks(LINK.sub(lambda match: _site_link(match, folder), markdown))


def on_post_page(output: str, *, page: Page, **_: Any) -> None:
    """Check that a page loads nothing from another server.

    Raises:
        PluginError: it does.
    """
    if match := FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} loads a file from another server: {match[0]}")


def separate_blocks(markdown: str) -> str:
    """Put a blank line before each list and table that follows a line of text."""
    lines: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        before = lines[-1] if lines else ""
        kind = _kind(line)
        if kind and not fenced and before and kind != _kind(before) and not before.startswith((" ", "#")):
            lines.append("")
        fenced ^= line.lstrip().startswith("```")
        lines.append(line)
    return "\n".join(lines)


def _kind(line: str) -> str | None:
    """Return which kind of list or table a line is of; None for text."""
    start = LIST_OR_TABLE.match(line)
    return start.lastgroup if start else None


def _site_link(match: re.Match[str], folder: str) -> str:
    image, text, path, anchor = match.groups(default="")
    target = posixpath.normpath(posixpath.join(folder, path))
    if target in ROOT_PAGES:
        return f"[{text}]({ROOT_PAGES[target]}{anchor})"
    if target.startswith("docs/"):
        return f"{image}[{text}]({target.removeprefix('docs/')}{anchor})"
    return text if (PROJECT / target).exists() else match[0]
