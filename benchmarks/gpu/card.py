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

if TYPE_CHECKING:  # the process that starts the workers does not import torch
    import torch

    from benchmarks.gpu.settings import Setup

PACKAGES = ("torch", "torchvision", "triton", "onnxruntime", "numpy", "scipy", "pandas", "pydantic", "timm")


class Card(NamedTuple):
    """The first GPU, as nvidia-smi lists it."""

    name: str
    driver: str


def find_card() -> Card | None:
    """Return the first GPU, or None if there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout.strip():
        return None
    name, driver = listed.stdout.splitlines()[0].rsplit(",", 1)
    return Card(name.strip(), driver.strip())


def describe(device: torch.device) -> dict[str, Any]:
    """Return the card, the driver, the versions, the date and the commit."""
    import torch

    machine: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "cpu_cores": os.cpu_count(),
        "cuda": torch.version.cuda,
        **{name: _version(name) for name in PACKAGES},
    }
    if find_spec("onnxruntime"):
        import onnxruntime

        machine["onnxruntime_providers"] = onnxruntime.get_available_providers()
    if device.type == "cuda":
        card, properties = find_card(), torch.cuda.get_device_properties(0)
        machine |= {
            "card": properties.name,
            "driver": card.driver if card else None,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
        }
    return machine


def rates(setup: Setup) -> Iterator[Figure]:
    """Measure the two rates that no program on this card can exceed."""
    side, size = setup.sizes.matrix, setup.sizes.copied
    name = f"bf16 product {side} x {side} x {side}"
    rate = matmul_rate(setup.device, side)
    yield Figure(name, rate / 1e12, "TFLOP/s", seconds=2 * side**3 / rate)
    rate = copy_rate(setup.device, size)
    yield Figure(f"copy of {size >> 20} MiB", rate / 1e9, "GB/s read and written", seconds=2 * size / rate)


@cache
def matmul_rate(device: torch.device, side: int) -> float:
    """Measure the floating-point operations a second of a bfloat16 matrix product of random numbers."""
    import torch

    from benchmarks.gpu.timing import measure

    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / measure(lambda: left @ right, device, turns=30).seconds


@cache
def copy_rate(device: torch.device, size: int) -> float:
    """Measure the bytes that a copy reads and writes in a second."""
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
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
