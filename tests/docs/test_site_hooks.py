"""What the documentation site changes in pages that are written for GitHub."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")

from mkdocs.exceptions import PluginError

from docs import site_hooks


def page(path: str) -> Any:
    return cast(Any, SimpleNamespace(file=SimpleNamespace(src_uri=path)))


@pytest.mark.parametrize(
    ("path", "written", "on_the_site"),
    [
        ("index.md", "[speed](docs/speed.md#on-a-gpu)", "[speed](speed.md#on-a-gpu)"),
        ("index.md", "![report](docs/images/report.png)", "![report](images/report.png)"),
        ("index.md", "[how](CONTRIBUTING.md), [licence](LICENSE)", "[how](contributing.md), licence"),
        ("speed.md", "[all](matching.md), [start](../README.md)", "[all](matching.md), [start](index.md)"),
        ("speed.md", "[`cli`](../qaconv/cli.py)", "`cli`"),
        ("speed.md", "[typo](../qaconv/clo.py)", "[typo](../qaconv/clo.py)"),
        ("speed.md", "[words](#words), [paper](https://arxiv.org/)", "[words](#words), [paper](https://arxiv.org/)"),
    ],
)
def test_a_link_points_to_the_page_of_the_site(path: str, written: str, on_the_site: str) -> None:
    assert site_hooks.on_page_markdown(written, page=page(path)) == on_the_site


def test_lists_and_tables_begin_after_a_blank_line_but_code_stays() -> None:
    written = "Words:\n- one\n  - two\n- three\n| a |\n|---|\n```sh\nset\n- not a list\n```"
    blocks = "Words:\n\n- one\n  - two\n- three\n\n| a |\n|---|\n```sh\nset\n- not a list\n```"
    assert site_hooks.separate_blocks(written) == blocks


def test_numbered_items_stay_together_and_begin_after_a_line_that_starts_with_a_number() -> None:
    assert site_hooks.separate_blocks("2 steps:\n1. one\n2. two") == "2 steps:\n\n1. one\n2. two"


@pytest.mark.parametrize(
    "loaded",
    [
        '<script src="https://unpkg.com/x.js">',
        '<link href="https://fonts.example/x">',
        '<img src="//x/y">',
    ],
)
def test_a_page_that_loads_a_foreign_file_stops_the_build(loaded: str) -> None:
    with pytest.raises(PluginError, match="speed.md loads a file from another server"):
        site_hooks.on_post_page(f"<body>{loaded}</body>", page=page("speed.md"))
    site_hooks.on_post_page('<a href="https://arxiv.org/">paper</a><img src="images/page.png">', page=page("speed.md"))
