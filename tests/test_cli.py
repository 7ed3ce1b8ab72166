import re
from pathlib import Path

from typer.testing import CliRunner

from qaconv.cli import app

PAGES = [Path("README.md"), *Path("docs").glob("*.md")]


def test_every_command_that_the_documents_name_exists():
    named = {
        name for page in PAGES for name in re.findall(r"^(?:\$ )?qaconv ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"rollback", "reproduce", "serve", "prepare"} <= named
    for name in named:
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0, name
