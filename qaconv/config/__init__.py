"""Read params.yaml into frozen settings, or stop with one message that names every wrong key.

What depends on a kind, such as a loss and its settings, is read by qaconv/config/kinds.py. Nothing here imports torch.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from qaconv.config.adapting import AdaptConfig
from qaconv.config.kinds import Loss, Rerank, Sampler
from qaconv.config.operation import DriftConfig, GateConfig, IngestConfig, ServeConfig
from qaconv.config.outdated import replace_outdated
from qaconv.config.values import Name, Seed, Settings, Share
from qaconv.errors import InputError
from qaconv.plugins import check_name

T = TypeVar("T")
METHODS = ("qaconv", "baseline")
MOST_FAULTS = 20  # named in one message


class TrackerConfig(Settings):
    """Errors of the tracker of a synthetic site."""

    breaks: Share = 0.0  # of passes through a view, whose track breaks in two
    switches: Share = 0.0  # of passes, whose track goes on with another person who is in view
    missed: Share = 0.0  # of boxes, which are not detected


class SiteConfig(Settings):
    """One site of the synthetic camera network, rendered to Market-1501's folders."""

    seed: Seed
    cameras: Annotated[int, Field(ge=2, le=12)]
    people: Annotated[int, Field(ge=2, le=9000)]
    days: Annotated[int, Field(ge=1, le=6)] = 1  # sessions s1..s6; the clocks restart with each
    train_share: Share = 0.0  # of the people; the others are in query and gallery
    distractors: Annotated[int, Field(ge=0)] = 0  # people in the gallery that no query shows, written as pid 0
    junk: Annotated[int, Field(ge=0)] = 0  # crops that show no person, written as pid -1
    tracks: TrackerConfig | None = None  # writes sightings.csv too, with tracks and without people, for layout table


class DatasetConfig(Settings):
    """A camera network's images: a folder in a known layout, or a table."""

    layout: str  # a name of the group "layout"
    path: Annotated[Path, Field(strict=False)]  # relative to the project, or absolute
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)  # such as official_time: true

    @field_validator("path")
    @classmethod
    def _path_is_written_out(cls, path: Path) -> Path:
        if path == Path() or path.parts[0].startswith("~"):
            raise ValueError("must be the path of a folder or a table; ~ and an empty path are not replaced")
        return path

    @field_validator("layout")
    @classmethod
    def _layout_exists(cls, name: str) -> str:
        return check_name("layout", name)


class ImageConfig(Settings):
    """Size of the network's input, in pixels."""

    height: PositiveInt
    width: PositiveInt


class BackboneConfig(Settings):
    """The encoder, which maps images [B, 3, H, W] in [0, 1] to feature maps [B, C, h, w] of unit length over C."""

    name: str  # a name of the group "backbone", or timm:NAME
    last_layer: Literal["layer2", "layer3", "layer4"]  # stride 8, 16, 32
    neck_channels: PositiveInt | Literal["none"]  # C of the maps; none: no neck, the backbone's channels
    neck: Literal["bias", "batchnorm"] = "bias"  # 3x3 convolution with a bias (CVPR 2022), or with a norm (ECCV 2020)
    weights: str  # none, imagenet, or a .safetensors or .pth file; in params.yaml its name in data/weights
    normalise: Literal["none", "imagenet"] = "none"  # images by the mean and deviation of ImageNet; none in the papers

    @field_validator("name")
    @classmethod
    def _name_exists(cls, name: str) -> str:
        kind, colon, _ = name.partition(":")
        if colon and not re.fullmatch(r"timm:[\w.-]+", name):
            raise ValueError("a name with a colon must be timm:NAME, a backbone of timm")
        if name == "timm":
            raise ValueError("must be timm:NAME, a backbone of timm")
        check_name("backbone", kind)
        return name


class AugmentConfig(Settings):
    """Augmentation of training images, in the order of the authors' v2.1."""

    pad: Annotated[int, Field(ge=0)]  # pixels on each side before a random crop
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]  # largest angle
    flip: Share  # probability
    colour_jitter: Share  # strength s: brightness, contrast, saturation x0.5^s..2^s, hue +-0.1 s; 1 in the papers
    occlusion: Share  # largest side of the white square, as a fraction of the image's shorter side


class MethodConfig(Settings):
    """How two images are compared, and how the comparison is trained."""

    pooled: bool  # average the map to one vector: the score is a cosine
    head: Literal["v1", "v2"] = "v2"  # of ECCV 2020, or of CVPR 2022
    loss: Loss  # {kind: NAME, ...}, a name of the group "loss"
    sampler: Sampler  # {kind: NAME, ...}, a name of the group "sampler"

    @model_validator(mode="after")
    def _loss_can_be_computed(self) -> Self:
        loss, sampler = self.loss.kind, self.sampler.kind
        if self.loss.needs_vectors and not self.pooled:
            raise ValueError(f"loss {loss} compares pooled vectors: pooled must be true, got false")
        warm_up = self.loss.warm_up_epochs()
        if (self.loss.needs_pairs or warm_up) and not self.sampler.gives_pairs:
            need = f"begins with pairwise matching ({warm_up} epochs), which needs" if warm_up else "needs"
            raise ValueError(
                f"loss {loss} {need} two images of each person in a batch, which sampler {sampler} does not give; "
                "choose another of the two, such as sampler pk or loss class_memory"
            )
        return self


class TrainConfig(Settings):
    """The recipe that all methods share."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    amp: bool  # half precision: float16 on CUDA, bfloat16 on the CPU
    freeze_batchnorm: bool  # keep the backbone's statistics; for pretrained weights only
    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    epochs: PositiveInt  # at most: lr_drop_when_loss_below may end training before
    lr: PositiveFloat  # of the neck, the head and the loss
    backbone_lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of the gradients of encoder and head, each; 0: none
    lr_drop_when_loss_below: Share  # times the second epoch's: lr / 10, then half as many epochs again; 0: never
    lr_drop_by: Literal["training_loss", "holdout"]  # holdout: 1 - mAP of the people held out, in place of the loss
    lr_drop_epoch: PositiveInt  # lr / 10 after this epoch at the latest
    learnt_by_epoch: PositiveInt  # a run that has not reached learnt_accuracy by then stops
    learnt_accuracy: Share  # of an epoch's images matched right: hardest positive above hardest negative
    holdout_share: Annotated[float, Field(ge=0, le=0.5)]  # of each source's people, kept for calibration; 0: none

    @model_validator(mode="after")
    def _schedule_can_be_kept(self) -> Self:
        if self.lr_drop_epoch > self.epochs:
            raise ValueError(f"lr_drop_epoch must be in 1..{self.epochs} (epochs), got {self.lr_drop_epoch}")
        if self.lr_drop_by == "holdout" and not self.holdout_share:
            raise ValueError("lr_drop_by holdout needs a holdout_share above 0, got 0")
        return self


class MachineConfig(Settings):
    """Where the work runs. Nothing here changes a result beyond a device's rounding."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]  # auto: a GPU if there is one
    processes: PositiveInt  # that train together, each on a GPU; torchrun's number takes precedence
    workers: Annotated[int, Field(ge=0)]  # further processes that read images, for each of those
    checkpoint_every_steps: PositiveInt  # a killed training resumes from the last checkpoint


class EvaluateConfig(Settings):
    """How targets are encoded, matched and re-ranked."""

    batch_size: PositiveInt  # images encoded at a time, on a CPU by each core
    engine: Literal["exact", "int8"]  # how maps are matched; int8 is faster and within 0.1 mAP points of exact
    # 1..n: each stage of a target matches one of n parts of its sightings
    parts: Annotated[tuple[PositiveInt, ...], Field(strict=False)]
    rerank: Rerank  # {kind: NAME, ...}, a name of the group "rerank"

    @field_validator("parts")
    @classmethod
    def _count_from_one(cls, parts: tuple[int, ...]) -> tuple[int, ...]:
        if not parts or parts != tuple(range(1, len(parts) + 1)):
            raise ValueError(f"must be [1], [1, 2], [1, 2, 3] and so on, got {list(parts)}")
        return parts


class ReportConfig(Settings):
    """What the report shows."""

    blur: bool | Literal["auto"]  # blur heads; auto: except on the synthetic sites, which show no real person


class RegistryConfig(Settings):
    """Where versions are registered."""

    model: Name  # registered model of MLflow
    experiment: str  # experiment of MLflow


class Params(Settings):
    """All of params.yaml."""

    seed: Seed
    sites: dict[Name, SiteConfig]
    datasets: dict[Name, DatasetConfig]
    targets: Annotated[list[Name], Field(min_length=1)]
    image: ImageConfig
    backbone: BackboneConfig
    augment: AugmentConfig
    methods: dict[str, MethodConfig]
    train: TrainConfig
    evaluate: EvaluateConfig
    adapt: AdaptConfig = AdaptConfig()
    report: ReportConfig
    registry: RegistryConfig
    gate: GateConfig
    ingest: IngestConfig
    drift: DriftConfig
    serve: ServeConfig
    machine: MachineConfig

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if set(self.methods) != set(METHODS):
            raise ValueError(f"methods must be {sorted(METHODS)}, got {sorted(self.methods)}")
        for key, names in (("train.datasets", self.train.datasets), ("targets", self.targets)):
            unknown = [name for name in names if name not in self.datasets]
            if len(set(names)) < len(names):
                raise ValueError(f"{key} must name each dataset once, got {names}")
            if unknown:
                raise ValueError(f"{key} names unknown datasets {unknown}, allowed: {', '.join(sorted(self.datasets))}")
        if unknown := sorted(set(self.adapt.targets) - set(self.targets)):
            raise ValueError(f"adapt.targets names unknown targets {unknown}, allowed: {', '.join(self.targets)}")
        if unknown := sorted(set(self.serve.retention_days) - set(self.targets)):
            raise ValueError(
                f"serve.retention_days names unknown targets {unknown}, allowed: {', '.join(self.targets)}"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_a_dependency(self) -> Self:
        name = self.backbone.weights
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(
                f"backbone.weights must be none, imagenet or the name of a file in data/weights, got {name!r}: "
                f"move the file there and run `dvc add data/weights/{Path(name).name}`"
            )
        return self

    @model_validator(mode="after")
    def _own_loss_is_trained(self) -> Self:
        for name, method in self.methods.items():
            if (warm_up := method.loss.warm_up_epochs()) >= self.train.epochs:
                raise ValueError(
                    f"methods.{name}.loss must leave an epoch for itself: it begins with {warm_up} of pairwise "
                    f"matching, and train.epochs is {self.train.epochs}"
                )
        return self

    def dataset(self, name: str) -> DatasetConfig:
        """Return the settings of a dataset.

        Raises:
            InputError: the name is not in `datasets`.
        """
        return _named(self.datasets, "datasets", name)

    def check_target(self, name: str) -> None:
        """Check that a target's name is one of `targets`.

        Raises:
            InputError: it is not.
        """
        if name not in self.targets:
            raise InputError(f"params.yaml: targets has no {name!r}, allowed: {', '.join(self.targets)}")

    def method(self, name: str) -> MethodConfig:
        """Return the settings of a method.

        Raises:
            InputError: the name is not in `methods`.
        """
        return _named(self.methods, "methods", name)

    def site(self, name: str) -> SiteConfig:
        """Return the settings of a site.

        Raises:
            InputError: the name is not in `sites`.
        """
        return _named(self.sites, "sites", name)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: the file is missing, not YAML or of an older version, or a key is unknown, missing or has a value
            that is not allowed.
    """
    from qaconv.config.reading import read_yaml  # imports ruamel.yaml; settings are built on machines without it

    return check_params(read_yaml(path), path)


def load_recorded_params(path: Path) -> Params:
    """Read the params.yaml that a version was registered with. Keys of older versions are replaced in memory.

    Raises:
        InputError: as `load_params`, except for a file of an older version.
    """
    from qaconv.config.reading import read_yaml  # as above

    values = read_yaml(path)
    replace_outdated(values, path)
    return check_params(values, path)


def check_params(values: Any, path: Path) -> Params:
    """Check the content of params.yaml.

    Args:
        values: the content.
        path: the file, named in messages.

    Raises:
        InputError: the content is of an older version, or a key is unknown, missing or has a value that is not allowed.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        if outdated := replace_outdated(values, path):
            message = f"{path} has keys of an older version; `qaconv migrate-params` rewrites it:\n  "
            raise InputError(message + "\n  ".join(outdated)) from error
        faults = [f"{path}: {_describe(fault)}" for fault in error.errors()[:MOST_FAULTS]]
        if error.error_count() > MOST_FAULTS:
            faults.append(f"... {error.error_count():,} faults in all")
        raise InputError("\n".join(faults)) from error


def _named(settings: Mapping[Any, T], key: str, name: str) -> T:
    if name not in settings:
        raise InputError(f"params.yaml: {key} has no {name!r}, allowed: {', '.join(sorted(settings))}")
    return settings[name]


def _describe(fault: ErrorDetails) -> str:
    """Return key, expectation and value of a fault; a block is not shown, as it has many values."""
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "params"
    expected = "Input should be a block of keys" if fault["type"] == "model_type" else fault["msg"]
    text = f"{key}: {expected.removeprefix('Value error, ')}"
    if isinstance(fault["input"], Mapping):
        return text
    shown = _BRIEF.repr(fault["input"])
    return f"{text}, found {shown if len(shown) <= 80 else shown[:77] + '...'}"


_BRIEF = Repr()  # a list of aliases may stand for millions of values
_BRIEF.maxlevel = 2
_BRIEF.maxstring = 80
_BRIEF.maxother = 80
