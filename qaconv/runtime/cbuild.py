"""Build a C file of this package as a library for this CPU when it is first needed."""

import ctypes
import logging
import os
import shutil
import subprocess
import threading
from functools import cache
from hashlib import sha256
from pathlib import Path

from qaconv.files import replacing_file

log = logging.getLogger(__name__)

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
LOADING = threading.Lock()


def load_library(source: Path, otherwise: str) -> ctypes.CDLL | None:
    """Load the library, and build it if the cache does not have it; return None and log one line if that fails.

    The cache is `qaconv/` in XDG_CACHE_HOME, or in ~/.cache. A library is found by the digest of the source, the flags,
    and the macros that the compiler defines for itself and the CPU.

    Args:
        source: path of the C file.
        otherwise: consequence of not having it, for the log.
    """
    with LOADING:  # threads may need it at the same moment: one builds it, and logs one line
        return _load(source, otherwise)


@cache
def _load(source: Path, otherwise: str) -> ctypes.CDLL | None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        log.warning("there is no C compiler (%s): %s", ", ".join(COMPILERS), otherwise)
        return None
    command = [compiler, *FLAGS]
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qaconv"
        macros = _run([*command, "-dM", "-E", "-x", "c", os.devnull])
        identity = " ".join(FLAGS) + macros + source.read_text(encoding="utf-8")
        library = folder / f"{source.stem}-{sha256(identity.encode()).hexdigest()[:16]}.so"
        if not library.is_file():
            with replacing_file(library) as building:
                _run([*command, str(source), "-o", str(building)])
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        fault = next((line for line in reason if "error" in line), reason[-1])
        log.warning("%s cannot be built: %s; %s", source.name, fault, otherwise)
        return None


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
