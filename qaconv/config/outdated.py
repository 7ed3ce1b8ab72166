"""Find and replace the keys of params.yaml that older versions used."""

from collections.abc import MutableMapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from qaconv.errors import InputError

RENAMED = {"deployments": "targets", "watch": "drift"}
SERVED = "qaconv"  # the method that was always the served one
SOURCES = ("datasets", "holdout_share")  # settings of the sources that stood in `train`
SHARED = ("image", "backbone", "augment", "train")  # blocks that all methods shared
ORDER = ("kind", "image", "backbone", "augment", "head", "loss", "sampler", "train")
HARD_TRIPLET = ("margin", "pairwise_epochs")  # settings of the hard triplet loss that stood in `train`


def replace_outdated(values: Any, path: Path) -> list[str]:
    """Replace the outdated keys in the content of params.yaml.

    Args:
        values: the content, plain or as ruamel.yaml reads it, then with its comments. It is changed.
        path: the file, named in messages.

    Returns:
        A line for each key, such as "deployments is now targets".

    Raises:
        InputError: an outdated key and its new name are both set.
    """
    if not isinstance(values, MutableMapping):
        return []
    changes = []
    for old, new in RENAMED.items():
        if old in values and new in values:
            raise InputError(f"{path}: {old} is now {new}, and both are set; remove {old}")
        if old in values:
            _rename(values, old, new)
            changes.append(f"{old} is now {new}")
    methods = {name: block for name, block in _block(values, "methods").items() if isinstance(block, MutableMapping)}
    for name, method in methods.items():
        for key in ("loss", "sampler"):
            if isinstance(method.get(key), str):
                method[key] = {"kind": method[key]}
                changes.append(f"methods.{name}.{key} is now methods.{name}.{key}.kind")
    train = _block(values, "train")
    for key in HARD_TRIPLET:
        if key in train:
            changes.append(_move_to_hard_triplet(train, key, methods))
    rerank = _block(_block(values, "evaluate"), "rerank")
    if rerank and "kind" not in rerank:
        _insert(rerank, 0, "kind", "k_reciprocal")
        changes.append("evaluate.rerank now begins with kind: k_reciprocal")
    evaluate = _block(values, "evaluate")
    if isinstance(parts := evaluate.get("parts"), list):
        evaluate["parts"] = len(parts)
        changes.append(f"evaluate.parts is now a number, {len(parts)}")
    return changes + _give_each_method_its_recipe(values)


def _give_each_method_its_recipe(values: MutableMapping[str, Any]) -> list[str]:
    """Copy the blocks that all methods shared into each of them, and name the kinds and the served method."""
    methods = _block(values, "methods")
    old = [name for name, block in methods.items() if isinstance(block, MutableMapping) and "pooled" in block]
    if not old:
        return []
    changes = []
    train = _block(values, "train")
    if moved := [key for key in SOURCES if key in train]:
        sources = type(train)()
        for key in moved:
            _move(train, sources, key)
        _insert(values, list(values).index("methods"), "sources", sources)
        changes += [f"train.{key} is now sources.{key}" for key in moved]
    shared = {key: values[key] for key in SHARED if key in values}
    changes += [f"{key} is now {' and '.join(f'methods.{name}.{key}' for name in old)}" for key in shared]
    for name in old:
        methods[name] = _with_recipe(methods[name], shared)
        changes.append(f"methods.{name}.pooled is now methods.{name}.kind: {methods[name]['kind']}")
    for key in shared:
        _drop(values, key)
    registry = _block(values, "registry")
    if registry and "method" not in registry:
        _insert(registry, 0, "method", SERVED)
        changes.append(f"registry.method is {SERVED}")
    return changes


def _with_recipe(method: MutableMapping[str, Any], shared: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return a method's settings with copies of the shared blocks, in the order of the project's params.yaml."""
    pooled = method["pooled"]
    content = {**method, **shared, "kind": "pooled" if pooled else "qaconv"}
    keys = [key for key in ORDER if key in content and not (pooled and key == "head")]
    return {key: deepcopy(content[key]) for key in keys}


def _move_to_hard_triplet(train: MutableMapping[str, Any], key: str, methods: MutableMapping[str, Any]) -> str:
    value = train[key]
    _drop(train, key)
    losses = {f"methods.{name}.loss": _block(method, "loss") for name, method in methods.items()}
    losses = {name: loss for name, loss in losses.items() if loss.get("kind") == "hard_triplet"}
    moved = [name for name, loss in losses.items() if key not in loss]
    kept = [f"{name}.{key} stays {loss[key]}" for name, loss in losses.items() if key in loss]
    for name in moved:
        losses[name][key] = value
    if not losses:
        return f"train.{key} is gone: it is a setting of the loss hard_triplet now, which no method has"
    if not moved:
        return f"train.{key}, which was {value}, is gone: {' and '.join(kept)}"
    return f"train.{key} is now " + " and ".join([f"{name}.{key}" for name in moved] + kept)


def _block(values: MutableMapping[str, Any], key: str) -> MutableMapping[str, Any]:
    block = values.get(key)
    return block if isinstance(block, MutableMapping) else {}


def _rename(block: Any, old: str, new: str) -> None:
    position = list(block).index(old)
    value = block[old]
    comment = _remove(block, old)
    _insert(block, position, new, value)
    if comment is not None:
        block.ca.items[new] = comment


def _drop(block: Any, key: str) -> None:
    """Remove a key with the comment on its line, and keep the comments on the lines around it."""
    keys = list(block)
    position = keys.index(key)
    comment = _remove(block, key)
    if comment is None:
        return
    _, above, token, _ = comment  # as ruamel.yaml stores them: the token is the line's comment and the lines below it
    lines = "".join(line.value for line in above or ())
    lines += token.value.partition("\n")[2] if token else ""
    if not lines:
        return
    if key != keys[-1]:
        block.ca.items.setdefault(keys[position + 1], [None] * 4)[1] = [_comment(lines)]
    elif position:
        line_end = block.ca.items.setdefault(keys[position - 1], [None, None, _comment("\n"), None])
        line_end[2].value += lines


def _move(block: Any, other: Any, key: str) -> None:
    """Move a key to another block, with the comment on its line."""
    other[key] = block[key]
    comment = block.ca.items.get(key) if hasattr(block, "ca") else None
    if comment and comment[2]:
        other.ca.items[key] = [None, None, _comment(comment[2].value.partition("\n")[0] + "\n"), None]
    _drop(block, key)


def _comment(text: str) -> Any:
    from ruamel.yaml.error import CommentMark  # settings are built on machines without it
    from ruamel.yaml.tokens import CommentToken

    return CommentToken(text, CommentMark(0))


def _remove(block: Any, key: str) -> Any:
    """Remove a key and return its comment, if the mapping keeps comments."""
    comment = block.ca.items.pop(key, None) if hasattr(block, "ca") else None
    del block[key]
    return comment


def _insert(block: Any, position: int, key: str, value: Any) -> None:
    if hasattr(block, "insert"):
        block.insert(position, key, value)
    else:
        block[key] = value
