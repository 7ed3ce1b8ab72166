"""Find and replace the keys of params.yaml that older versions used."""

from collections.abc import MutableMapping
from typing import Any

RENAMED = {"deployments": "targets", "watch": "drift"}
HARD_TRIPLET = ("margin", "pairwise_epochs")  # settings of the hard triplet loss that stood in `train`


def replace_outdated(values: Any) -> list[str]:
    """Replace the outdated keys in the content of params.yaml.

    Args:
        values: the content, plain or as ruamel.yaml reads it, then with its comments. It is changed.

    Returns:
        A line for each key, such as "deployments is now targets".
    """
    if not isinstance(values, MutableMapping):
        return []
    changes = []
    for old, new in RENAMED.items():
        if old in values and new not in values:
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
    return changes


def _move_to_hard_triplet(train: MutableMapping[str, Any], key: str, methods: MutableMapping[str, Any]) -> str:
    value = train[key]
    _remove(train, key)
    names = [name for name, method in methods.items() if _block(method, "loss").get("kind") == "hard_triplet"]
    for name in names:
        methods[name]["loss"].setdefault(key, value)
    if not names:
        return f"train.{key} is gone: it is a setting of the loss hard_triplet now, which no method has"
    return f"train.{key} is now " + " and ".join(f"methods.{name}.loss.{key}" for name in names)


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
