"""params.yaml goes in; frozen settings come out, or one message that names the key that is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from qaconv.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T")
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]  # it becomes a path, a DVC stage and an MLflow metric
METHODS = ("qaconv", "baseline")
RANKINGS = ("direct", "reranked", "tlift", "reranked_tlift")


class Settings(BaseModel):
    """A block of params.yaml: unknown keys are refused, and nothing changes after it has been read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteConfig(Settings):
    """One site of the embedded camera network, rendered to Market-1501's folders."""

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

    name: Literal["resnet18", "resnet34", "resnet50", "mobilenet_v2"]
    last_layer: Literal["layer2", "layer3", "layer4"]  # stride 8, 16, 32
    neck_channels: PositiveInt  # C
    weights: str  # none, imagenet, or a local .safetensors or .pth file
    normalise: Literal["none", "imagenet"] = "none"  # none is the authors'; imagenet: the mean and std of its weights


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
    loss: Literal["pairwise_matching", "hard_triplet", "identity"]  # identity is for pooled vectors
    sampler: Literal["pk", "graph"]

    @model_validator(mode="after")
    def _identity_needs_vectors(self) -> Self:
        if self.loss == "identity" and not self.pooled:
            raise ValueError("loss identity compares pooled vectors; set pooled: true, or another loss")
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
    clip_norm: PositiveFloat
    margin: PositiveFloat  # of the hard triplet loss, in logits
    lr_drop_when_loss_below: Share  # of the second epoch's loss: then lr / 10, and half as many epochs again
    lr_drop_epoch: PositiveInt  # lr / 10 after this epoch at the latest

    @model_validator(mode="after")
    def _lr_drops_in_time(self) -> Self:
        if self.lr_drop_epoch > self.epochs:
            raise ValueError(f"lr_drop_epoch is {self.lr_drop_epoch}; legal is 1 to epochs, {self.epochs}")
        return self


class MachineConfig(Settings):
    """Where the work runs; nothing here changes a result beyond a device's rounding."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]  # auto is CUDA where there is one
    workers: Annotated[int, Field(ge=0)]  # processes that read images beside the main one
    checkpoint_every_steps: PositiveInt  # a killed training resumes from here


class RerankConfig(Settings):
    """k-reciprocal encoding (Zhong et al., CVPR 2017)."""

    k1: PositiveInt
    k2: PositiveInt
    lambda_value: Share


class TLiftConfig(Settings):
    """Temporal lifting (Liao and Shao, ECCV 2020)."""

    tau_s: PositiveFloat  # neighbours of a query are within this many seconds
    sigma_s: PositiveFloat  # width of the time weight
    top_k: PositiveInt  # pivots on each gallery camera
    alpha: Annotated[float, Field(ge=0)]  # what appearance counts without support in time


class EvaluateConfig(Settings):
    batch_size: PositiveInt  # images encoded at a time
    rerank: RerankConfig
    tlift: TLiftConfig


class RegistryConfig(Settings):
    """Where a version goes."""

    model: Name
    experiment: str


class GateConfig(Settings):
    """When a challenger becomes the champion: all of it must hold."""

    min_gain: Annotated[float, Field(ge=0)]  # mAP points, direct matching, mean over the targets, with 95 % confidence
    max_loss: Annotated[float, Field(ge=0)]  # mAP points that a single target may lose
    max_onnx_difference: PositiveFloat  # of maps and logits from PyTorch's
    max_megabytes: PositiveFloat  # of both graphs
    max_encoder_ms: PositiveFloat  # for one crop, on one thread of the CPU that registers


class Params(Settings):
    """All of params.yaml."""

    seed: int
    sites: dict[Name, SiteConfig]
    datasets: dict[Name, DatasetConfig]
    deployments: Annotated[list[Name], Field(min_length=1)]
    image: ImageConfig
    backbone: BackboneConfig
    augment: AugmentConfig
    methods: dict[str, MethodConfig]
    train: TrainConfig
    evaluate: EvaluateConfig
    registry: RegistryConfig
    gate: GateConfig
    machine: MachineConfig

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if set(self.methods) != set(METHODS):
            raise ValueError(f"methods are {sorted(self.methods)}; they must be {sorted(METHODS)}")
        for key, names in (("train.datasets", self.train.datasets), ("deployments", self.deployments)):
            unknown = [name for name in names if name not in self.datasets]
            if len(set(names)) < len(names):
                raise ValueError(f"{key} names one twice: {names}")
            if unknown:
                raise ValueError(f"{key} names {unknown}; datasets has {sorted(self.datasets)}")
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
