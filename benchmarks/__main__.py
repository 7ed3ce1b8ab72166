"""Run benchmarks, print their table, and keep each part's rows in benchmarks/results.json."""

import json
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.demo import require_outputs
from benchmarks.machine import describe
from benchmarks.table import as_table
from qaconv.files import write_json

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
PARTS = ("images", "matching", "metrics", "rerank", "store", "tlift", "training_head", "video")


def main(parts: list[str]) -> None:
    """Run the named parts, or all; the other parts keep the rows of their last run."""
    if unknown := [part for part in parts if part not in PARTS]:
        sys.exit(f"refused: unknown part {', '.join(unknown)}, allowed: {', '.join(PARTS)}")
    modules = {part: import_module(f"benchmarks.{part}") for part in parts or PARTS}
    require_outputs(path for module in modules.values() for path in getattr(module, "OUTPUTS", ()))
    console = Console(width=None if sys.stdout.isatty() else 180)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    shown = []
    for part, module in modules.items():
        rows = []
        with console.status(part):
            for row in module.rows():
                rows.append(row)
                plain = f", plain {row.plain.seconds:.3g} s" if row.plain else ""
                console.log(f"{part}, {row.what}: {row.ours.seconds:.3g} s{plain}")
        shown += [(part, row) for row in rows]
        results[part] = {"machine": describe(), "rows": [row.as_dict() for row in rows]}
        write_json(RESULTS, results)
    console.print(as_table(shown))


if __name__ == "__main__":
    main(sys.argv[1:])
