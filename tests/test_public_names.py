"""The names that `import qaconv` offers: each resolves, is documented, and runs its example."""

import ast
import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qaconv
from qaconv.errors import EXTRAS
from tests.imports import PROJECT

NAMES = [name for name in qaconv.__all__ if name != "__version__"]
FINDER = doctest.DocTestFinder(recurse=False)
NEED_TORCH = {"QAConv", "build_encoder", "load_network"}
# Prints the message of each name that cannot be imported where no package of an extra can.
WITHOUT_EXTRAS = """
import json, sys

class NoExtras:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NoExtras())
import qaconv

messages = {{}}
for name in {names}:
    try:
        getattr(qaconv, name)
    except ImportError as error:
        messages[name] = str(error)
print(json.dumps(messages))
"""


def test_names_work_without_any_extra_or_name_the_one_that_they_need() -> None:
    source = WITHOUT_EXTRAS.format(extras=list(EXTRAS), names=NAMES)
    done = subprocess.run([sys.executable, "-c", source], cwd=PROJECT, capture_output=True, text=True, check=True)
    need = "the package torch is not installed: pip install 'qaconv[train]'"
    assert json.loads(done.stdout) == {name: f"qaconv.{name}: {need}" for name in NEED_TORCH}


def test_type_checkers_see_the_names_that_users_get() -> None:
    tree = ast.parse((PROJECT / "qaconv/__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imports == qaconv._SOURCES
    assert sorted(imports) == sorted(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'qaconv' has no attribute 'fit_profil'"):
        qaconv.fit_profil  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_resolves_and_is_listed(name: str) -> None:
    assert callable(getattr(qaconv, name))
    assert name in dir(qaconv)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    public = getattr(qaconv, name)
    tests = [test for test in FINDER.find(public, name, extraglobs={name: public}) if test.examples]
    assert tests, f"qaconv.{name} has no example in its docstring"
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in tests:
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def test_the_example_in_the_readme_prints_what_its_comments_say(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "from qaconv" in block]
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.split() == re.findall(r"# prints (\S+)", example)
