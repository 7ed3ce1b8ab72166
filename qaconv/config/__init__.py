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
from qaconv.config.kinds import Method, MethodSettings, Rerank
from qaconv.config.licences import Licence, refuse_forbidding
from qaconv.config.operation import DriftConfig, GateConfig, IngestConfig, ServeConfig
from qaconv.config.outdated import replace_outdated
from qaconv.config.values import ImageConfig as ImageConfig
from qaconv.config.values import MethodName, Name, Seed, Settings, Share
from qaconv.errors import InputError
from qaconv.paths import BLOCKS
from qaconv.plugins import check_name

T = TypeVar("T")
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


class SourcesConfig(Settings):
    """What all methods are trained or calibrated on."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    holdout_share: Annotated[float, Field(ge=0, le=0.5)]  # of each source's people, kept for calibration; 0: none


class BackboneConfig(Settings):
    """The encoder, which maps images [B, 3, H, W] in [0, 1] to feature maps [B, C, h, w] of unit length over C."""

    name: str  # a name of the group "backbone", or timm:NAME
    last_layer: Literal["layer2", "layer3", "layer4"]  # stride 8, 16, 32
    last_stride: Literal[1, 2] = 2  # of layer4, whose maps have stride 16 by 1 (Luo et al., CVPRW 2019)
    neck_channels: PositiveInt | Literal["none"]  # C of the maps; none: no neck, the backbone's channels
    neck: Literal["bias", "batchnorm"] = "bias"  # 3x3 convolution with a bias (CVPR 2022), or with a norm (ECCV 2020)
    weights: str  # none, imagenet, champion, or a .safetensors, .pth or .pt file, in params.yaml by its name alone
    weights_licence: Licence | None = None  # of the file of weights; the licence of other weights is known
    normalise: Literal["none", "imagenet", "clip", "inception"] = "none"  # images by the weights' mean and deviation

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

    @model_validator(mode="after")
    def _weights_may_be_used(self) -> Self:
        if self.weights != "none":
            refuse_forbidding("backbone.name", self.name)
        return self

    @model_validator(mode="after")
    def _last_stride_is_of_layer4(self) -> Self:
        if self.last_stride == 1 and self.last_layer != "layer4":
            raise ValueError(f"last_stride must be 2 for last_layer {self.last_layer}, got 1, which needs layer4")
        return self


class AugmentConfig(Settings):
    """Augmentation of training images, in the order of the authors' v2.1."""

    pad: Annotated[int, Field(ge=0)]  # pixels on each side before a random crop
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]  # largest angle
    flip: Share  # probability
    colour_jitter: Share  # strength s: brightness, contrast, saturation x0.5^s..2^s, hue +-0.1 s; 1 in the papers
    occlusion: Share  # largest side of the white square, as a fraction of the image's shorter side
    erasing: Share = 0.0  # probability that a rectangle is filled with the mean colour (Zhong et al., AAAI 2020)


class EncodeConfig(Settings):
    """How a trained network encodes an image wherever it is used."""

    flip: bool = False  # the mirrored image too: its map, mirrored back, and the image's are averaged


class TrainConfig(Settings):
    """The recipe of a training."""

    amp: bool  # half precision: float16 on CUDA, bfloat16 on the CPU
    freeze_batchnorm: bool  # keep the backbone's statistics; for pretrained weights only
    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    epochs: PositiveInt  # at most: lr_drop_when_loss_below may end training before
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"  # sgd: Nesterov momentum 0.9; adamw: weight_decay is decoupled
    lr_schedule: Literal["step", "cosine"] = "step"  # cosine: down to a hundredth in the last epoch (ICLR 2017)
    lr_warm_up_epochs: Annotated[int, Field(ge=0)] = 0  # the learning rates rise linearly to lr and backbone_lr
    lr: PositiveFloat  # of the neck, the head and the loss
    backbone_lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of each gradient: encoder, head, loss; 0: none
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the averaged weights, which are the result; 0: the last
    lr_drop_when_loss_below: Share  # times the second epoch's: lr / 10, then half as many epochs again; 0: never
    lr_drop_by: Literal["training_loss", "holdout"]  # holdout: 1 - mAP of the people held out, in place of the loss
    lr_drop_epoch: PositiveInt  # lr / 10 after this epoch at the latest
    learnt_by_epoch: PositiveInt  # a run that has not reached learnt_accuracy by then stops
    learnt_accuracy: Share  # of an epoch's images matched right: hardest positive above hardest negative

    @model_validator(mode="after")
    def _schedule_can_be_kept(self) -> Self:
        if self.lr_drop_epoch > self.epochs:
            raise ValueError(f"lr_drop_epoch must be in 1..{self.epochs} (epochs), got {self.lr_drop_epoch}")
        if self.lr_warm_up_epochs > self.lr_drop_epoch:
            raise ValueError(
                f"lr_warm_up_epochs must be in 0..{self.lr_drop_epoch} (lr_drop_epoch), got {self.lr_warm_up_epochs}"
            )
        if self.lr_schedule == "cosine" and (self.lr_drop_when_loss_below or self.lr_drop_epoch != self.epochs):
            raise ValueError(
                f"lr_schedule cosine has no drop: it needs lr_drop_when_loss_below 0 and lr_drop_epoch {self.epochs} "
                f"(epochs), got {self.lr_drop_when_loss_below:g} and {self.lr_drop_epoch}"
            )
        return self


class MachineConfig(Settings):
    """Where the work runs. Nothing here changes a result beyond a device's rounding."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]  # auto: a GPU if there is one
    processes: PositiveInt  # that train together, each on a GPU; torchrun's number takes precedence
    workers: Annotated[int, Field(ge=0)]  # further processes that read images, for each of those
    checkpoint_every_steps: PositiveInt  # a killed training resumes from the last checkpoint
    blocks: str = BLOCKS.as_posix()  # folder of unfinished matches; workers that share a target's matching share it
    ray: Annotated[str, Field(pattern=r"^(none|auto|[^\s:/]+:\d+)$")] = "none"  # the Ray cluster that matches


class EvaluateConfig(Settings):
    """How targets are encoded, matched and re-ranked."""

    batch_size: PositiveInt  # images encoded at a time, on a CPU by each core
    engine: Literal["exact", "int8"]  # how maps are matched; int8 is faster and within 0.1 mAP points of exact
    parts: PositiveInt  # of a target's matching, at most, which as many workers share; it changes no result
    rerank: Rerank  # {kind: NAME, ...}, a name of the group "rerank"


class ReportConfig(Settings):
    """What the report shows."""

    blur: bool | Literal["auto"]  # blur heads; auto: except on the synthetic sites, which show no real person


class RegistryConfig(Settings):
    """Which method is registered, and where."""

    model: Name  # registered model of MLflow
    experiment: str  # experiment of MLflow
    method: str  # of methods: the one that is exported, registered and served


class Params(Settings):
    """All of params.yaml."""

    seed: Seed
    sites: dict[Name, SiteConfig]
    datasets: dict[Name, DatasetConfig]
    targets: Annotated[list[Name], Field(min_length=1)]
    sources: SourcesConfig
    methods: dict[MethodName, Method]
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
        for key, names in (("sources.datasets", self.sources.datasets), ("targets", self.targets)):
            unknown = [name for name in names if name not in self.datasets]
            if len(set(names)) < len(names):
                raise ValueError(f"{key} must name each dataset once, got {names}")
            if unknown:
                raise ValueError(f"{key} names unknown datasets {unknown}, allowed: {', '.join(sorted(self.datasets))}")
        if unknown := sorted(set(self.adapt.targets) - set(self.targets)):
            raise ValueError(
                f"adapt.targets names {', '.join(unknown)}, which must be in targets too, allowed: "
                f"{', '.join(self.targets)}, or [] to adapt to none"
            )
        if unknown := sorted(set(self.serve.retention_days) - set(self.targets)):
            raise ValueError(
                f"serve.retention_days names unknown targets {unknown}, allowed: {', '.join(self.targets)}"
            )
        return self

    @model_validator(mode="after")
    def _adapted_method_is_trained(self) -> Self:
        served = self.methods.get(self.registry.method)
        if self.adapt.targets and served and not served.trains:
            raise ValueError(
                f"adapt.targets must be [], as {self.registry.method} (registry.method) is of kind {served.kind}, "
                "which is not trained here"
            )
        return self

    @model_validator(mode="after")
    def _methods_can_be_told_apart(self) -> Self:
        if self.registry.method not in self.methods:
            raise ValueError(
                f"registry.method must be one of methods, got {self.registry.method!r}, allowed: "
                f"{', '.join(self.methods)}"
            )
        key = self.evaluate.rerank.key
        for name in self.methods:
            if (other := f"{name}_{key}") in self.methods:
                raise ValueError(f"methods.{other} must have another name, as columns of {name} begin with it")
        return self

    @model_validator(mode="after")
    def _sources_are_enough(self) -> Self:
        for name, method in self.methods.items():
            try:
                method.check_sources(self.sources.holdout_share)
            except ValueError as error:
                raise ValueError(f"methods.{name}.{error}") from error
        return self

    @property
    def method_names(self) -> list[str]:
        """Names of the methods, the served one first."""
        served = self.registry.method
        return [served, *(name for name in self.methods if name != served)]

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

    def method(self, name: str) -> MethodSettings:
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
