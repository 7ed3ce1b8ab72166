"""The names that `import qaconv` offers: each resolves, is documented, and runs its example."""

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qaconv
from tests.imports import PROJECT

NAMES = [name for name in qaconv.__all__ if name != "__version__"]
FINDER = doctest.DocTestFinder(recurse=False)
# None of these may be imported before a name that needs it is used.
HEAVY = ("torch", "pandas", "numpy", "pydantic", "mlflow")
NEED_TORCH = {"QAConv", "build_encoder", "load_network"}
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnx", "mlflow", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
import qaconv
"""


def run_python(source: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", source], cwd=PROJECT, capture_output=True, text=True, check=False)


def test_importing_the_package_imports_nothing_heavy() -> None:
    done = run_python(f"import sys, qaconv; dir(qaconv); print(*(name for name in {HEAVY} if name in sys.modules))")
    assert (done.stdout, done.stderr) == ("\n", "")


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
def test_a_name_works_without_torch_or_names_the_extra(name: str) -> None:
    done = run_python(WITHOUT_TORCH + f"print(callable(qaconv.{name}))")
    if name in NEED_TORCH:
        assert f"ImportError: qaconv.{name} needs torch: pip install 'qaconv[train]'" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("True\n", "")


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
