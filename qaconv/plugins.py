"""Find the kinds that params.yaml names: layouts, backbones, losses, samplers and re-rankers.

A kind of the project is a line of BUILT_IN. A kind of another package is an entry point of the group `qaconv.<group>`,
or is registered by a call before params.yaml is read. docs/extending.md shows both.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar, get_args

from qaconv.errors import InputError

Group = Literal["layout", "backbone", "loss", "sampler", "rerank"]
T = TypeVar("T")

_RESNETS = [f"resnet{depth}{form}" for form in ("", "_ibn_a", "_ibn_b") for depth in (18, 34, 50, 101, 152)]

# "module:attribute" of each kind, imported when it is first needed. Reading params.yaml imports the settings of losses,
# samplers and re-rankers, so their modules must not import torch at once.
BUILT_IN: dict[Group, dict[str, str]] = {
    "layout": {
        "market1501": "qaconv.data.layouts.market1501:read",
        "cuhk03np": "qaconv.data.layouts.cuhk03np:read",
        "msmt17": "qaconv.data.layouts.msmt17:read",
        "dukemtmc": "qaconv.data.layouts.dukemtmc:read",
        "randperson": "qaconv.data.layouts.randperson:read",
        "clonedperson": "qaconv.data.layouts.clonedperson:read",
        "viper": "qaconv.data.layouts.viper:read",
        "prid2011": "qaconv.data.layouts.prid2011:read",
        "table": "qaconv.data.layouts.table:read",
    },
    "backbone": {
        **dict.fromkeys(_RESNETS, "qaconv.models.backbones:build_torchvision"),
        "mobilenet_v2": "qaconv.models.backbones:build_torchvision",
        "timm": "qaconv.models.backbones:TimmBackbone",
    },
    "loss": {
        "pairwise_matching": "qaconv.models.losses.pairwise_matching:PairwiseMatching",
        "hard_triplet": "qaconv.models.losses.hard_triplet:HardTriplet",
        "class_memory": "qaconv.models.losses.class_memory:ClassMemory",
        "identity": "qaconv.models.losses.identity:Identity",
    },
    "sampler": {
        "pk": "qaconv.data.samplers.pk:PKSampler",
        "graph": "qaconv.data.samplers.graph:GraphSampler",
        "domain_balanced": "qaconv.data.samplers.domain_balanced:DomainBalancedSampler",
        "random": "qaconv.data.samplers.random:RandomSampler",
    },
    "rerank": {"k_reciprocal": "qaconv.matching.rerankers:KReciprocal"},
}
_registered: dict[tuple[Group, str], Any] = {}


def register(group: Group, name: str) -> Callable[[T], T]:
    """Make a decorator that registers a class or function under a name.

    Args:
        group: group of kinds, such as "loss".
        name: the kind's name in params.yaml.

    Raises:
        ValueError: the group is unknown, or the name is already taken by another object.

    Example:
        >>> from qaconv.plugins import find, register
        >>> @register("backbone", "tiny")
        ... def build_tiny(config):
        ...     return f"modules up to {config['last_layer']}"
        >>> find("backbone", "tiny")({"last_layer": "layer2"})
        'modules up to layer2'
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
    check_name(group, name)
    if (group, name) in _registered:
        return _registered[group, name]
    if name in BUILT_IN[group]:
        module, _, attribute = BUILT_IN[group][name].partition(":")
        return getattr(import_module(module), attribute)
    entry = next(iter(entry_points(group=f"qaconv.{group}", name=name)))
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"{group} {name!r}: cannot import {entry.value}: {error}") from error


def check_name(group: Group, name: str) -> str:
    """Return a name if it is registered.

    Raises:
        InputError: the name is unknown.
    """
    allowed = names(group)
    if name not in allowed:
        raise InputError(f"unknown {group} {name!r}, allowed: {', '.join(allowed)}")
    return name


def names(group: Group) -> list[str]:
    """List the names of a group: the project's in their order, then the others in alphabetical order."""
    others = {name for kind, name in _registered if kind == group}
    others |= {entry.name for entry in entry_points(group=f"qaconv.{group}")}
    return [*BUILT_IN[group], *sorted(others - set(BUILT_IN[group]))]
