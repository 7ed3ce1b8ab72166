"""Describe the machine: its card, its software, and the two rates that bound every program on the card."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.gpu.record import Figure

if TYPE_CHECKING:  # the process that looks after the workers does without torch
    import torch

    from benchmarks.gpu.settings import Setup

PACKAGES = ("torch", "torchvision", "triton", "onnxruntime", "numpy", "scipy", "pandas", "pydantic", "timm")


class Card(NamedTuple):
    """The first GPU, as nvidia-smi lists it."""

    name: str
    driver: str


def find_card() -> Card | None:
    """The first GPU; None if there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout.strip():
        return None
    name, driver = listed.stdout.splitlines()[0].rsplit(",", 1)
    return Card(name.strip(), driver.strip())


def describe(device: torch.device) -> dict[str, Any]:
    """The card, the driver, the versions, the date and the commit."""
    import torch

    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "cpu_cores": os.cpu_count(),
        "cuda": torch.version.cuda,
        **{name: _version(name) for name in PACKAGES},
    }
    if find_spec("onnxruntime"):
        import onnxruntime

        found["onnxruntime_providers"] = onnxruntime.get_available_providers()
    if device.type == "cuda":
        card, properties = find_card(), torch.cuda.get_device_properties(0)
        found |= {
            "card": properties.name,
            "driver": card.driver if card else None,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
        }
    return found


def rates(setup: Setup) -> Iterator[Figure]:
    """What no program on this card can beat."""
    side, size = setup.sizes.matrix, setup.sizes.copied
    name, rate = f"bf16 product {side} x {side} x {side}", matmul_rate(setup.device, side)
    yield Figure(name, rate / 1e12, "TFLOP/s", seconds=2 * side**3 / rate)
    rate = copy_rate(setup.device, size)
    yield Figure(f"copy of {size >> 20} MiB", rate / 1e9, "GB/s read and written", seconds=2 * size / rate)


@cache
def matmul_rate(device: torch.device, side: int) -> float:
    """Floating-point operations a second of a bfloat16 matrix product of random numbers."""
    import torch

    from benchmarks.gpu.timing import measure

    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / measure(lambda: left @ right, device, turns=30).seconds


@cache
def copy_rate(device: torch.device, size: int) -> float:
    """Bytes a second, those read and those written together."""
    import torch

    from benchmarks.gpu.timing import measure

    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / measure(lambda: target.copy_(source), device, turns=20).seconds


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = Path(__file__).parent
    if shutil.which("git") is None:
        return None
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
