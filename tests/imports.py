"""Read the imports of the project's modules from their source, for the tests of layers and of dvc.yaml."""

import ast
from collections.abc import Iterator
from pathlib import Path

from qaconv.plugins import BUILT_IN

PROJECT = Path(__file__).parent.parent


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere in it, such as qaconv.matching.MapStore."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports must be absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def defining_file(dotted: str) -> Path | None:
    """Return the file of the project that defines a dotted name, or None if it is of another package.

    A name that a package's __init__.py imports is defined where that file imports it from: its users need that module,
    not the whole package.
    """
    path = PROJECT.joinpath(*dotted.split("."))
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    package, _, name = dotted.rpartition(".")
    if not package or (file := defining_file(package)) is None or file.name != "__init__.py":
        return file if package else None
    sources = {imported.rpartition(".")[2]: imported for imported in imported_names(file)}
    return defining_file(sources[name]) if name in sources else file


def kinds_of_package(path: Path) -> Iterator[str]:
    """Yield the modules of the kinds that a package holds: the registry imports them by name (qaconv/plugins.py)."""
    if path.name == "__init__.py":
        package = ".".join(path.parent.relative_to(PROJECT).parts)
        modules = {target.partition(":")[0] for kinds in BUILT_IN.values() for target in kinds.values()}
        yield from (module for module in sorted(modules) if module.rpartition(".")[0] == package)


def import_closure(path: Path) -> set[Path]:
    """Return a file of the project and every other file of it that it imports, directly or through others."""
    closure = {path}
    waiting = [path]
    while waiting:
        importing = waiting.pop()
        for dotted in [*imported_names(importing), *kinds_of_package(importing)]:
            file = defining_file(dotted)
            if file is not None and file not in closure:
                closure.add(file)
                waiting.append(file)
    return closure
