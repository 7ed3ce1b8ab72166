import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.demo import require_outputs

PROJECT = Path(__file__).parents[2]


def test_missing_outputs_are_named_in_one_message_that_names_the_command(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(SystemExit) as stopped:
        require_outputs([tmp_path / "made", tmp_path / "missing"])
    assert str(stopped.value) == f"refused: {tmp_path / 'missing'} must be there to measure on; run `make demo` first"


@pytest.mark.parametrize("command", [["benchmarks"], ["benchmarks.lifting", "sites"]])
def test_a_benchmark_without_the_demo_s_outputs_ends_with_that_message_alone(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    script = [
        sys.executable,
        "-c",
        f"import sys, runpy; sys.path.insert(0, {str(PROJECT)!r}); "
        f"sys.argv[1:] = {command[1:]!r}; runpy.run_module({command[0]!r}, run_name='__main__')",
    ]
    process = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 1
    assert process.stderr.startswith("refused: ") and process.stderr.endswith("run `make demo` first\n")
    assert "Traceback" not in process.stderr
