"""Find the kinds that params.yaml names: layouts, methods, backbones, losses, samplers and re-rankers.

A kind of the project is a line of BUILT_IN. A kind of another package is an entry point of the group `qaconv.<group>`,
or is registered by a call before params.yaml is read. docs/extending.md shows both.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, Literal, TypeVar, get_args

from qaconv.errors import InputError

Group = Literal["layout", "method", "backbone", "loss", "sampler", "rerank"]
T = TypeVar("T")

_RESNETS = [f"resnet{depth}{form}" for form in ("", "_ibn_a", "_ibn_b") for depth in (18, 34, 50, 101, 152)]

# "module:attribute" of each kind, imported when it is first needed. Reading params.yaml imports the settings of
# methods, losses, samplers and re-rankers, so their modules must not import torch at once.
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
        "mars": "qaconv.data.layouts.mars:read",
        "cuhksysu": "qaconv.data.layouts.cuhksysu:read",
        "folders": "qaconv.data.layouts.folders:read",
        "table": "qaconv.data.layouts.table:read",
    },
    "method": {
        "qaconv": "qaconv.training.methods.qaconv:QAConvMethod",
        "pooled": "qaconv.training.methods.pooled:PooledMethod",
        "onnx": "qaconv.training.methods.onnx:OnnxMethod",
    },
    "backbone": {
        **dict.fromkeys(_RESNETS, "qaconv.models.backbones:build_torchvision"),
        "mobilenet_v2": "qaconv.models.backbones:build_torchvision",
        "timm": "qaconv.models.timm_backbone:TimmBackbone",
    },
    "loss": {
        "pairwise_matching": "qaconv.models.losses.pairwise_matching:PairwiseMatching",
        "hard_triplet": "qaconv.models.losses.hard_triplet:HardTriplet",
        "class_memory": "qaconv.models.losses.class_memory:ClassMemory",
        "identity": "qaconv.models.losses.identity:Identity",
    },
    "sampler": {
        "pk": "qaconv.data.samplers.pk:PKSampler",
        "across_cameras": "qaconv.data.samplers.across_cameras:AcrossCamerasSampler",
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
        ValueError: the group is unknown, or the name is already taken by another class or function. One that is
            defined again under its own name, as by a notebook's cell, replaces itself.

    Example:
        >>> from qaconv.plugins import find, register
        >>> @register("backbone", "tiny")
        ... def build_tiny(config, image):
        ...     return f"modules up to {config['last_layer']} for images of {image} pixels"
        >>> find("backbone", "tiny")({"last_layer": "layer2"}, "64 x 32")
        'modules up to layer2 for images of 64 x 32 pixels'
    """
    if group not in get_args(Group):
        raise ValueError(f"unknown group {group!r}, allowed: {', '.join(get_args(Group))}")

    def keep(kind: T) -> T:
        others = [entry.value for entry in _installed(group).get(name, ()) if entry.value != _address(kind)]
        earlier = _registered.get((group, name), kind)
        if name in BUILT_IN[group] or others or not _is_same(earlier, kind):
            raise ValueError(f"{group} {name!r} is already registered; choose another name")
        _registered[group, name] = kind
        return kind

    return keep


def find(group: Group, name: str) -> Any:
    """Return the class or function of a name, importing it if necessary.

    Raises:
        InputError: the name is unknown, two packages define it, or the module of an entry point cannot be imported.
    """
    check_name(group, name)
    if (group, name) in _registered:
        return _registered[group, name]
    if name in BUILT_IN[group]:
        return resolve_name(BUILT_IN[group][name])
    (entry,) = _installed(group)[name]
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"{group} {name!r}: cannot import {entry.value}: {error}") from error


def check_name(group: Group, name: str) -> str:
    """Return a name if it is registered.

    Raises:
        InputError: the name is unknown, or two packages define it.
    """
    allowed = names(group)
    if name not in allowed:
        raise InputError(
            f"unknown {group} {name!r}, allowed: {', '.join(allowed)}; a kind that a script registers is known in that "
            "process only"
        )
    definitions = [entry.value for entry in _installed(group).get(name, ())]
    definitions += [BUILT_IN[group][name]] if name in BUILT_IN[group] else []
    if len(definitions) > 1:
        raise InputError(
            f"{group} {name!r} is defined more than once, by {', '.join(definitions)}; uninstall all but one package"
        )
    return name


def names(group: Group) -> list[str]:
    """List the names of a group: the project's in their order, then the others in alphabetical order."""
    others = {name for kind, name in _registered if kind == group} | set(_installed(group))
    return [*BUILT_IN[group], *sorted(others - set(BUILT_IN[group]))]


@cache
def _installed(group: Group) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group by name, each once; looking through all packages takes long."""
    installed: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=f"qaconv.{group}"):
        same_name = installed.setdefault(entry.name, [])
        if entry.value not in [other.value for other in same_name]:
            same_name.append(entry)
    return installed


def _is_same(earlier: Any, kind: Any) -> bool:
    """Return whether two objects are one, or one definition that was run twice."""
    return earlier is kind or (_address(kind) is not None and _address(earlier) == _address(kind))


def _address(kind: Any) -> str | None:
    """Return "module:name" of a class or function, as an entry point has it; None for another object."""
    name = getattr(kind, "__qualname__", None)
    return f"{kind.__module__}:{name}" if name else None
