"""params.yaml goes in; frozen settings come out, or one message that names the key that is wrong."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from qaconv.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T")
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]  # it becomes a path, a DVC stage and an MLflow metric
RESNETS = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))
BACKBONES = (*RESNETS, *(f"{name}_ibn_{form}" for name in RESNETS for form in "ab"), "mobilenet_v2")
METHODS = ("qaconv", "baseline")


class Settings(BaseModel):
    """A block of params.yaml: unknown keys are refused, and nothing changes after it has been read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteConfig(Settings):
    """One site of the synthetic camera network, rendered to Market-1501's folders."""

    seed: int
    cameras: Annotated[int, Field(ge=2, le=12)]
    people: Annotated[int, Field(ge=2, le=9000)]
    days: Annotated[int, Field(ge=1, le=6)] = 1  # each a session of its own, s1..s6, on clocks that restart
    train_share: Share = 0.0  # of the people; the others make query and gallery
    distractors: Annotated[int, Field(ge=0)] = 0  # people in the gallery whom no query shows, written as pid 0
    junk: Annotated[int, Field(ge=0)] = 0  # crops of nobody in particular, written as pid -1


class DatasetConfig(Settings):
    """A camera network's images: a folder in a known layout, or a table."""

    layout: str
    path: Path  # relative to the project, or absolute
    options: dict[str, bool] = {}  # the layout's own, such as official_time of market1501


class ImageConfig(Settings):
    """What the network sees, in pixels."""

    height: PositiveInt
    width: PositiveInt


class BackboneConfig(Settings):
    """The encoder: images [B, 3, H, W] in [0, 1] to unit maps [B, C, h, w]."""

    name: str  # one of BACKBONES, or timm:NAME
    last_layer: Literal["layer2", "layer3", "layer4"]  # stride 8, 16, 32
    neck_channels: PositiveInt | Literal["none"]  # C; without a neck, the backbone's
    neck: Literal["bias", "batchnorm"] = (
        "bias"  # of the 3x3 convolution: of CVPR 2022, or no bias and a norm, of ECCV 2020
    )
    weights: str  # none, imagenet, or a local .safetensors or .pth file
    normalise: Literal["none", "imagenet"] = "none"  # none is the authors'; imagenet: the mean and std of its weights

    @field_validator("name")
    @classmethod
    def _name_exists(cls, name: str) -> str:
        if name not in BACKBONES and not re.fullmatch(r"timm:[\w.-]+", name):
            raise ValueError(f"backbones are {', '.join(BACKBONES)}, and timm:NAME for one of timm's")
        return name


class AugmentConfig(Settings):
    """Training images are varied; the order is that of the authors' v2.1."""

    pad: Annotated[int, Field(ge=0)]  # pixels on each side before a random crop
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    flip: Share  # probability
    colour_jitter: Share  # strength s: brightness, contrast and saturation x0.5^s..2^s, hue +-0.1 s; theirs is 1
    occlusion: Share  # side of the white square, at most, as a share of the shorter side


class MethodConfig(Settings):
    """How two images are compared, and what training asks of the scores."""

    pooled: bool  # average the map to one vector: the score is a cosine
    head: Literal["v1", "v2"] = "v2"  # of ECCV 2020, or of CVPR 2022
    loss: Literal["pairwise_matching", "hard_triplet", "class_memory", "identity"]  # identity is for pooled vectors
    sampler: Literal["pk", "graph", "domain_balanced", "random"]  # random is for class_memory

    @model_validator(mode="after")
    def _loss_can_be_computed(self) -> Self:
        if self.loss == "identity" and not self.pooled:
            raise ValueError("loss identity compares pooled vectors; set pooled: true, or another loss")
        if self.sampler == "random" and self.loss != "class_memory":
            raise ValueError(
                f"loss {self.loss} needs two images of a person in a batch, which sampler random does not see to; "
                "legal are pk, graph and domain_balanced, or loss class_memory"
            )
        return self


class TrainConfig(Settings):
    """The recipe, which all methods share."""

    datasets: Annotated[list[Name], Field(min_length=1)]
    amp: bool  # half precision: float16 on CUDA, bfloat16 on the CPU
    freeze_batchnorm: bool  # keep the backbone's statistics: right for pretrained weights only
    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    epochs: PositiveInt  # fewer only where lr_drop_when_loss_below ends training
    lr: PositiveFloat  # of the neck and the head
    backbone_lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of the gradient, encoder and head apart; 0 is never
    margin: PositiveFloat  # of the hard triplet loss, in logits
    pairwise_epochs: Annotated[int, Field(ge=0)]  # that a hard triplet run begins with, on pairwise matching
    lr_drop_when_loss_below: Share  # of the second epoch's: then lr / 10, and half as many epochs again; 0 is never
    lr_drop_by: Literal["training_loss", "holdout"]  # holdout: 1 - mAP of the people held back stands for the loss
    lr_drop_epoch: PositiveInt  # lr / 10 after this epoch at the latest
    learnt_by_epoch: PositiveInt  # a run that has not matched learnt_accuracy by then stops
    learnt_accuracy: Share  # of an epoch's images matched right: hardest positive above hardest negative
    holdout_share: Annotated[float, Field(ge=0, le=0.5)]  # of each source's people, kept for calibration; 0 is none

    @model_validator(mode="after")
    def _schedule_can_be_kept(self) -> Self:
        if self.lr_drop_epoch > self.epochs:
            raise ValueError(f"lr_drop_epoch is {self.lr_drop_epoch}; legal is 1 to epochs, {self.epochs}")
        if self.pairwise_epochs >= self.epochs:
            raise ValueError(f"pairwise_epochs is {self.pairwise_epochs}; legal is 0 to epochs - 1, {self.epochs - 1}")
        if self.lr_drop_by == "holdout" and not self.holdout_share:
            raise ValueError("lr_drop_by is holdout and holdout_share is 0; legal is a share above 0, or training_loss")
        return self


class MachineConfig(Settings):
    """Where the work runs; nothing here changes a result beyond a device's rounding."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]  # auto is CUDA where there is one
    processes: PositiveInt  # that train together, a GPU each; torchrun's own number goes first
    workers: Annotated[int, Field(ge=0)]  # processes that read images beside each of those
    checkpoint_every_steps: PositiveInt  # a killed training resumes from here


class RerankConfig(Settings):
    """k-reciprocal encoding (Zhong et al., CVPR 2017)."""

    k1: PositiveInt
    k2: PositiveInt
    lambda_value: Share


class EvaluateConfig(Settings):
    batch_size: PositiveInt  # images encoded at a time, on a CPU by each core
    engine: Literal["exact", "int8"]  # how maps are matched; int8 is faster and within 0.1 mAP points of exact
    parts: tuple[PositiveInt, ...]  # 1 and on: shares of a target's sightings, each matched by a stage of its own
    rerank: RerankConfig

    @field_validator("parts")
    @classmethod
    def _count_from_one(cls, parts: tuple[int, ...]) -> tuple[int, ...]:
        if not parts or parts != tuple(range(1, len(parts) + 1)):
            raise ValueError("legal is [1], [1, 2], [1, 2, 3] and so on")
        return parts


class ReportConfig(Settings):
    """What may be seen in the report."""

    blur: bool | Literal["auto"]  # heads; auto is every dataset but the synthetic sites, which show nobody real


class RegistryConfig(Settings):
    """Where a version goes."""

    model: Name
    experiment: str


class GateConfig(Settings):
    """When a challenger becomes the champion: all of it must hold."""

    min_gain: Annotated[float, Field(ge=0)]  # mAP points, direct matching, mean over the targets, with 95 % confidence
    max_loss: Annotated[float, Field(ge=0)]  # mAP points that a single target may lose
    max_calibration_error: Share  # of the probabilities, at even odds, on every target
    max_bad_clocks: Share  # of a target's cameras: those of which times had to be left out, where times are used
    max_onnx_difference: PositiveFloat  # from PyTorch's, as a share of the largest where above 1
    max_megabytes: PositiveFloat  # of both graphs
    max_encoder_ms: PositiveFloat  # for one crop, on one thread of the CPU that registers


class IngestConfig(Settings):
    """What a batch of new sightings must keep to be taken in."""

    max_share_change: Share  # of each camera among the images, against those that were there before
    share_from: PositiveInt  # images, of the batch and of the dataset, from which on shares are compared


class DriftConfig(Settings):
    """When new sightings count as drifted from what the champion was measured on."""

    sightings: Annotated[int, Field(ge=10)]  # the newest before and since the champion, that are looked at
    fewest: Annotated[int, Field(ge=10)]  # of either; fewer are no evidence
    max_score_change: Share  # Kolmogorov-Smirnov distance of the best scores
    max_confident_drop: Share  # of the share of sightings with a match that is more likely than not
    max_share_change: Share  # of each camera among the sightings
    min_transit_gain: Share  # of the old gain that matches have from their times
    start: bool  # whether a finding starts fit_target (cameras, clocks, transits) or retrain (scores)


class ServeConfig(Settings):
    """The service; no stage depends on it."""

    memory_mb: PositiveInt  # of maps, for all galleries; half is kept for those of the next model
    shortlist: PositiveInt  # sightings that a query is matched with in full
    requests_per_minute: PositiveInt  # of each key
    poll_s: PositiveFloat  # how often the registry is asked for its champion, and what has expired is deleted
    retention_days: dict[Name, PositiveFloat]  # by target; without an entry, until it is deleted


class Params(Settings):
    """All of params.yaml."""

    seed: int
    sites: dict[Name, SiteConfig]
    datasets: dict[Name, DatasetConfig]
    targets: Annotated[list[Name], Field(min_length=1)]
    image: ImageConfig
    backbone: BackboneConfig
    augment: AugmentConfig
    methods: dict[str, MethodConfig]
    train: TrainConfig
    evaluate: EvaluateConfig
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
            raise ValueError(f"methods are {sorted(self.methods)}; they must be {sorted(METHODS)}")
        for key, names in (("train.datasets", self.train.datasets), ("targets", self.targets)):
            unknown = [name for name in names if name not in self.datasets]
            if len(set(names)) < len(names):
                raise ValueError(f"{key} names one twice: {names}")
            if unknown:
                raise ValueError(f"{key} names {unknown}; datasets has {sorted(self.datasets)}")
        if unknown := sorted(set(self.serve.retention_days) - set(self.targets)):
            raise ValueError(f"serve.retention_days names {unknown}; targets has {self.targets}")
        return self

    @model_validator(mode="after")
    def _pairwise_epochs_serve(self) -> Self:
        losses = [method.loss for method in self.methods.values()]
        if self.train.pairwise_epochs and "hard_triplet" not in losses:
            raise ValueError(
                f"train.pairwise_epochs is {self.train.pairwise_epochs}; without a loss hard_triplet legal is 0"
            )
        return self

    def dataset(self, name: str) -> DatasetConfig:
        """One dataset's settings.

        Raises:
            InputError: there is none of that name.
        """
        return _named(self.datasets, "datasets", name)

    def method(self, name: str) -> MethodConfig:
        """One method's settings.

        Raises:
            InputError: there is none of that name.
        """
        return _named(self.methods, "methods", name)

    def site(self, name: str) -> SiteConfig:
        """One site's settings.

        Raises:
            InputError: there is none of that name.
        """
        return _named(self.sites, "sites", name)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks params.yaml.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown, missing or of an impossible value.
    """
    try:
        return Params.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; run this in the project's folder") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'params'}: {fault['msg']}, found {_short(fault['input'])}"
            for fault in error.errors()
        ]
        raise InputError(f"{path}: " + f"\n{path}: ".join(faults)) from error


def _named(settings: Mapping[Any, T], key: str, name: str) -> T:
    if name not in settings:
        raise InputError(f"params.yaml: {key} has no {name!r}; it has {sorted(settings)}")
    return settings[name]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
