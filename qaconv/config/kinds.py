"""Read settings that depend on a kind, such as `loss: {kind: hard_triplet, margin: 16}`.

A kind is a class that derives from one of the bases below and is registered in qaconv/plugins.py. The bases define what
the rest of the project asks of a kind.
"""

import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BeforeValidator, SerializeAsAny, model_validator

from qaconv.config.values import ImageConfig, Settings
from qaconv.errors import InputError
from qaconv.plugins import Group, find, names

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T", bound="KindSettings")
# Names of the other rankings and figures, in metrics files and on pages.
TAKEN_KEYS = ("direct", "tlift", "verification", "calibration_error", "marked", "tracks", "reranking", "splits")
TAKEN_LABELS = ("target", "model", "direct", "lifted")


class KindSettings(Settings):
    """Base of the settings of a kind. A kind fixes its name: `kind: Literal["hinge"] = "hinge"`."""

    kind: str

    @classmethod
    def check_class(cls) -> None:
        """Check what the kind's class defines. Default: nothing.

        Raises:
            InputError: it is not allowed.
        """


class LossSettings(KindSettings):
    """Base of the losses. For a function of a batch's logits derive from `qaconv.models.losses.PairLoss` instead."""

    needs_vectors: ClassVar[bool] = False  # whether it reads pooled features before and after the BNNeck, not maps
    needs_pairs: ClassVar[bool] = True  # whether every person must be in a batch twice or more

    @abstractmethod
    def build(self, head: Any, people: int) -> Any:
        """Build the loss: a module that maps feature maps, or vectors [B, 2, C], and person indices to an `Outcome`.

        Args:
            head: the network's QAConv head.
            people: number of people in training, whose indices are 0..people-1.
        """

    def warm_up_epochs(self) -> int:
        """Return the number of epochs of pairwise matching that training begins with. Default: 0."""
        return 0

    def find_collapse(self, loss: float) -> str | None:
        """Say why an epoch's mean loss shows that nothing is learnt, and what to change. Default: None, it does not."""
        return None


class SamplerSettings(KindSettings):
    """Base of the samplers."""

    gives_pairs: ClassVar[bool] = True  # whether every person of a batch is in it twice or more

    @abstractmethod
    def batches(self, images: Any, rng: "np.random.Generator") -> list[list[Any]]:
        """Draw the batches of an epoch: lists of `qaconv.data.samplers.Draw`.

        Args:
            images: the training images, `qaconv.data.samplers.TrainingImages`.
            rng: the only source of random numbers, so that an epoch can be drawn again.
        """

    def check(self, images: Any) -> None:
        """Check before training that batches can be drawn. Default: as many people as a batch has identities.

        Raises:
            InputError: they cannot.
        """
        images.require_people()


class RerankSettings(KindSettings):
    """Base of the re-rankers. A kind names its ranking."""

    key: ClassVar[str]  # name of its ranking in metrics files, plots and MLflow
    label: ClassVar[str]  # name of its ranking on pages

    @classmethod
    def check_class(cls) -> None:
        """Check that key and label can name files, metrics and columns, and are those of no other ranking."""
        if not isinstance(cls.key, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", cls.key) or cls.key in TAKEN_KEYS:
            raise InputError(
                f"{cls.__name__}.key must be letters, digits, - and _, and none of {', '.join(TAKEN_KEYS)}, "
                f"got {cls.key!r}"
            )
        if not isinstance(cls.label, str) or not cls.label.strip() or cls.label in TAKEN_LABELS:
            raise InputError(
                f"{cls.__name__}.label must be a text other than {', '.join(TAKEN_LABELS)}, got {cls.label!r}"
            )

    @abstractmethod
    def rerank(self, distances: Any, nearest: Any, distances_of: Any) -> Any:
        """Return scores [Q, G] of Q queries and G gallery images, an array or a table of qaconv/tables.py.

        A higher score is a better match.

        Args:
            distances: table of float32 [Q, G] in [0, 1], whose rows are read when they are asked for.
            nearest: neighbours of each of the N = Q + G images, `qaconv.matching.rerank.Neighbourhoods`.
            distances_of: function of the indices [n] of both sides of n further pairs, which returns their distances.
        """

    def choose(self, camids: Any, distances_of: Any) -> tuple["RerankSettings | None", dict[str, Any]]:
        """Choose without labels how a target is re-ranked. Default: as these settings say.

        Args:
            camids: camera of each sighting, [N].
            distances_of: as in `rerank`, of indices into the N sightings.

        Returns:
            The settings for this target, None to keep the direct ranking; and what they were chosen by, as numbers and
            texts by name.
        """
        return self, {}


class MethodSettings(KindSettings):
    """Base of the methods: each makes a network that encodes images and compares them."""

    about: ClassVar[str]  # a sentence for the report: what it compares
    trains: ClassVar[bool] = True  # whether it learns from the images of the sources
    image: ImageConfig
    backbone: Any  # settings with the key `weights`, on whose file DVC makes the method depend

    @abstractmethod
    def build(self, seed: int) -> Any:
        """Build the network before it is trained, a `qaconv.models.checkpoint.Network`.

        Raises:
            InputError: a file is missing or is not what the settings say.
        """

    @abstractmethod
    def fit(self, network: Any, sources: Any) -> Any:
        """Train the network in place, and return the table of its history, a row an epoch.

        Args:
            network: from `build`.
            sources: images and settings, `qaconv.training.methods.Sources`.
        """

    @model_validator(mode="after")
    def _weights_are_a_dependency(self) -> Self:
        name = self.backbone.weights
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(
                f"backbone.weights must be none, imagenet or the name of a file in data/weights, got {name!r}: move "
                f"the file there and run `dvc add data/weights/{Path(name).name}`"
            )
        return self

    def check_sources(self, holdout_share: float) -> None:
        """Check what the method needs of the sources. Default: nothing.

        Raises:
            ValueError: it is missing.
        """


def read_kind(group: Group, base: type[T], value: Any) -> T:
    """Read the settings of a kind.

    Args:
        group: group of the registry.
        base: class that the kind must derive from.
        value: a mapping with the key `kind`, or settings that have been read already.

    Raises:
        InputError: the kind is missing or unknown, has another base, or does not define what its base asks for.
        ValidationError: a setting is unknown, missing or not allowed.
    """
    if isinstance(value, base):
        return value
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise InputError(f"must be a mapping with the key kind, allowed kinds: {', '.join(names(group))}")
    kind = find(group, value["kind"])
    if not isinstance(kind, type) or not issubclass(kind, base):
        raise InputError(f"{group} {value['kind']!r} must be a class that derives from {base.__name__}, got {kind!r}")
    missing = sorted(kind.__abstractmethods__ | {name for name in kind.__class_vars__ if not hasattr(kind, name)})
    if missing:
        raise InputError(f"{group} {value['kind']!r}: {kind.__name__} must define {', '.join(missing)}")
    kind.check_class()
    return kind.model_validate(value)


Loss = Annotated[SerializeAsAny[LossSettings], BeforeValidator(lambda value: read_kind("loss", LossSettings, value))]
Sampler = Annotated[
    SerializeAsAny[SamplerSettings], BeforeValidator(lambda value: read_kind("sampler", SamplerSettings, value))
]
Rerank = Annotated[
    SerializeAsAny[RerankSettings], BeforeValidator(lambda value: read_kind("rerank", RerankSettings, value))
]
Method = Annotated[
    SerializeAsAny[MethodSettings], BeforeValidator(lambda value: read_kind("method", MethodSettings, value))
]
