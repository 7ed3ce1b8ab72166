import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qaconv import __version__
from qaconv.cli import app

PAGES = [Path("README.md"), *Path("docs").glob("*.md")]


def test_every_command_that_the_documents_name_exists() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"^(?:\$ )?qaconv ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"rollback", "reproduce", "serve", "prepare"} <= named
    for name in named:
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0, name


def test_version_is_printed_without_a_command() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"qaconv {__version__}\n")


@pytest.mark.parametrize(
    "command", [["prepare", "--dataset", "shop"], ["train", "--method", "qaconv"], ["recipe", "x"]]
)
def test_an_input_error_is_one_message_and_exit_status_2(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert result.stderr.count("refused: ") == 1
    assert "Traceback" not in result.stderr


def test_a_package_that_is_not_installed_is_one_message_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it now raises ModuleNotFoundError
    monkeypatch.delitem(sys.modules, "qaconv.stages.train", raising=False)
    monkeypatch.delitem(sys.modules, "qaconv.training.distributed", raising=False)
    result = CliRunner().invoke(app, ["train", "--method", "qaconv"])
    assert result.exit_code == 2
    assert "the package torch is not installed: pip install 'qaconv[train]'" in result.stderr
