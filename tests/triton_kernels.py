"""Run Triton kernels in its interpreter, and compile them for a GPU that need not be there."""

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HOPPER = 90  # compute capability 9.0: H100, H200
SHARED_BYTES = 227 << 10  # that one program may have there


needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton comes with PyTorch for CUDA on Linux alone"
)


def run_in_interpreter(script: str) -> None:
    """Run a test file in a process where Triton interprets kernels on the CPU; it must be set before the import."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


class Resources(NamedTuple):
    registers: int  # of a thread; 255 at most
    spilled_bytes: int  # of a thread, in local memory
    shared_bytes: int
    tensor_core_products: int  # wgmma instructions in the program


def compile_for_hopper(kernel: Any, pointers: dict[str, str], constants: dict[str, Any], **options: int) -> Resources:
    """Compile `kernel`; arguments that are neither pointers nor constants are int32.

    Args:
        kernel: a JITFunction.
        pointers: type of what each pointer points to, such as fp16.
        constants: values of the constexpr arguments.
        options: num_warps, num_stages.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    names = kernel.arg_names
    types = {**{name: f"*{kind}" for name, kind in pointers.items()}, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "i32") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in pointers},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", HOPPER, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(compiled.asm["ptx"])
        assembler = str(get_ptxas(HOPPER).path)
        report = subprocess.run(
            [assembler, "-v", f"-arch=sm_{HOPPER}a", str(ptx), "-o", f"{folder}/kernel.cubin"],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    (registers,) = re.findall(r"Used (\d+) registers", report)
    (spilled,) = re.findall(r"(\d+) bytes spill stores", report)
    return Resources(int(registers), int(spilled), compiled.metadata.shared, compiled.asm["ptx"].count("wgmma.mma"))
