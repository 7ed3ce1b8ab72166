"""Open ONNX graphs in ONNX Runtime on the CPU."""

from pathlib import Path

import onnxruntime

from qaconv.errors import InputError


def open_graph(graph: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU.

    Args:
        graph: a file, or its content.
        threads: of one run. Default: 0, one for each core.

    Raises:
        InputError: the file is missing.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads would otherwise spin, and take the processor from the thread that decodes the next crop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if isinstance(graph, Path) and not graph.is_file():
        raise InputError(f"{graph}: file not found")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
