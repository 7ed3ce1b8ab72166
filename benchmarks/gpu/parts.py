"""List the parts of a run in order: the name, the time limit, and the function that yields the rows of each."""

from typing import NamedTuple

LOST_GPU = 3  # exit code of a worker whose GPU no longer answers, after it has recorded the part as failed
LOSSES = ("class_memory", "pairwise_matching", "hard_triplet", "identity")


class Part(NamedTuple):
    """One part. A fault in it does not affect the others.

    Attributes:
        name: group and name, joined by dots; `--only` takes either.
        seconds: time limit.
        function: module of this package, colon, name of a function that is called with a `Setup` and the arguments.
        arguments: further arguments of the function.
    """

    name: str
    seconds: float
    function: str
    arguments: tuple[str, ...] = ()


PARTS = (
    Part("rates", 20, "card:rates"),
    Part("parity.encoder", 60, "parity_network:encoder"),
    Part("parity.head", 30, "parity_network:head"),
    *(Part(f"parity.loss.{name}", 30, "parity_network:loss", (name,)) for name in LOSSES),
    Part("parity.matching", 60, "parity_matching:matching"),
    Part("parity.ranking", 40, "parity_matching:ranking"),
    Part("parity.sampler", 40, "parity_matching:sampler"),
    Part("parity.rerank", 40, "parity_matching:rerank"),
    Part("parity.augmentation", 20, "parity_training:augmentation"),
    Part("parity.resume", 60, "parity_training:resume"),
    Part("parity.handover", 60, "parity_training:handover", ("float32",)),
    Part("parity.handover_amp", 60, "parity_training:handover", ("amp",)),
    Part("parity.amp", 60, "parity_training:amp"),
    Part("parity.together", 90, "parity_training:together"),
    Part("speed.matching.paper", 40, "speed_matching:matching", ("paper",)),
    Part("speed.matching.demo", 40, "speed_matching:matching", ("demo",)),
    Part("speed.graph", 40, "speed_matching:graph"),
    Part("speed.head", 30, "speed_training:head"),
    Part("speed.step.hard_triplet", 45, "speed_training:step", ("hard_triplet",)),
    Part("speed.step.class_memory", 45, "speed_training:step", ("class_memory",)),
    Part("speed.split", 30, "speed_training:split"),
    Part("speed.loader", 60, "speed_loading:loader"),
    Part("speed.loop", 45, "speed_loading:loop"),
    Part("speed.encoding", 45, "speed_encoding:eager"),
    Part("speed.encoding.onnxruntime", 60, "speed_encoding:onnxruntime"),
    Part("training", 420, "real:training_and_ranking"),
    Part("speed.encoding.compiled", 90, "speed_encoding:compiled"),
)


def chosen(names: str | None) -> list[Part]:
    """Return the parts that are named, in order.

    Args:
        names: names of parts or groups, joined by commas. Default: all parts.

    Raises:
        ValueError: a name is neither a part nor a group.
    """
    if names is None:
        return list(PARTS)
    wanted = [name for name in names.split(",") if name]
    for name in wanted:
        if not any(_chooses(name, part.name) for part in PARTS):
            raise ValueError(f"--only must name parts, got {name!r}; allowed: {', '.join(part.name for part in PARTS)}")
    return [part for part in PARTS if any(_chooses(name, part.name) for name in wanted)]


def _chooses(name: str, part: str) -> bool:
    return part == name or part.startswith(f"{name}.")
