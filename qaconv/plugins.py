"""Register and find the kinds that params.yaml names: layouts, backbones, losses, samplers, re-rankers and methods.

A kind of the project is a line of BUILT_IN. A kind of another package is an entry point of the group `qaconv.<group>`,
or is registered by a call before params.yaml is read.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar, get_args

from qaconv.errors import InputError

Group = Literal["layout", "backbone", "loss", "sampler", "rerank", "method"]
T = TypeVar("T")

# "module:attribute" of each kind, imported when it is first asked for: to read params.yaml must not import torch.
BUILT_IN: dict[Group, dict[str, str]] = {
    "layout": {},
    "backbone": {},
    "loss": {},
    "sampler": {},
    "rerank": {"k_reciprocal": "qaconv.matching.rerankers:KReciprocal"},
    "method": {},
}
_registered: dict[tuple[Group, str], Any] = {}


def register(group: Group, name: str) -> Callable[[T], T]:
    """Make a decorator that registers a class or function under a name.

    Args:
        group: what it is a kind of.
        name: the word that params.yaml uses for it.

    Raises:
        ValueError: the group is unknown, or the name is already taken by another object.

    Example:
        >>> from qaconv.plugins import find, register
        >>> @register("rerank", "as_it_is")
        ... def as_it_is(scores):
        ...     return scores
        >>> find("rerank", "as_it_is")([0.5])
        [0.5]
    """
    if group not in get_args(Group):
        raise ValueError(f"unknown group {group!r}, allowed: {', '.join(get_args(Group))}")

    def keep(kind: T) -> T:
        if name in BUILT_IN[group] or _registered.get((group, name), kind) is not kind:
            raise ValueError(f"{group} {name!r} is already registered; choose another name")
        _registered[group, name] = kind
        return kind

    return keep


def find(group: Group, name: str) -> Any:
    """Return the class or function of a name, importing it if necessary.

    Raises:
        InputError: the name is unknown, or the module of an entry point cannot be imported.
    """
    if (group, name) in _registered:
        return _registered[group, name]
    if name in BUILT_IN[group]:
        module, _, attribute = BUILT_IN[group][name].partition(":")
        return getattr(import_module(module), attribute)
    for entry in entry_points(group=f"qaconv.{group}", name=name):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"{group} {name!r}: cannot import {entry.value}: {error}") from error
    raise InputError(f"unknown {group} {name!r}, allowed: {', '.join(names(group))}")


def names(group: Group) -> list[str]:
    """List the names of a group: the project's own in their order, then the others' by alphabet."""
    others = {name for kind, name in _registered if kind == group}
    others |= {entry.name for entry in entry_points(group=f"qaconv.{group}")}
    return [*BUILT_IN[group], *sorted(others - set(BUILT_IN[group]))]
