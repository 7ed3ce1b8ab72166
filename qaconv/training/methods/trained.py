"""Train an encoder and a head on the sources: what the methods that are trained here have in common."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from qaconv.config import AugmentConfig, BackboneConfig, EncodeConfig, TrainConfig
from qaconv.config.kinds import Loss, MethodSettings, Sampler
from qaconv.training.methods import NO_FILE, Sources, find_weights

if TYPE_CHECKING:
    import pandas as pd


class TrainedMethod(MethodSettings):
    """Base of the methods that are trained here."""

    pooled: ClassVar[bool]  # whether maps are averaged to one vector, so that the score is a cosine
    backbone: BackboneConfig
    augment: AugmentConfig
    loss: Loss  # {kind: NAME, ...}, a name of the group "loss"
    sampler: Sampler  # {kind: NAME, ...}, a name of the group "sampler"
    train: TrainConfig
    encode: EncodeConfig = EncodeConfig()

    @property
    def variant(self) -> Literal["v1", "v2"]:
        """Head: of ECCV 2020, or of CVPR 2022. Default: v2."""
        return "v2"

    @model_validator(mode="after")
    def _loss_can_be_computed(self) -> Self:
        loss, sampler = self.loss.kind, self.sampler.kind
        if self.loss.needs_vectors and not self.pooled:
            raise ValueError(f"loss {loss} compares pooled vectors: kind must be pooled, got {self.kind}")
        warm_up = self.loss.warm_up_epochs()
        if (self.loss.needs_pairs or warm_up) and not self.sampler.gives_pairs:
            need = f"begins with pairwise matching ({warm_up} epochs), which needs" if warm_up else "needs"
            raise ValueError(
                f"loss {loss} {need} two images of each person in a batch, which sampler {sampler} does not give; "
                "choose another of the two, such as sampler pk or loss class_memory"
            )
        if warm_up >= self.train.epochs:
            raise ValueError(
                f"loss must leave an epoch for itself: it begins with {warm_up} of pairwise matching, and train.epochs "
                f"is {self.train.epochs}"
            )
        return self

    def check_sources(self, holdout_share: float) -> None:
        """Check that people are held out if the schedule watches them."""
        if self.train.lr_drop_by == "holdout" and not holdout_share:
            raise ValueError("train.lr_drop_by holdout needs a sources.holdout_share above 0, got 0")

    def build(self, seed: int) -> Any:
        """Build the network with initial weights: from the backbone's file if there is one, else drawn from `seed`."""
        from qaconv.models.checkpoint import Architecture, build_network

        backbone = self._with_weights_file()
        architecture = Architecture(
            backbone=backbone, image=self.image, pooled=self.pooled, head=self.variant, flip=self.encode.flip
        )
        return build_network(architecture, seed)

    def fit(self, network: Any, sources: Sources) -> "pd.DataFrame":
        """Train the network on the sources, or go on with a training that was killed."""
        from qaconv.training.sources import train_on

        return train_on(network, self, sources)

    def _with_weights_file(self) -> BackboneConfig:
        """Return the backbone with the path of its weights, and their licence."""
        from qaconv.models.licences import weights_licence

        weights = self.backbone.weights
        path = weights if weights in NO_FILE else str(find_weights(weights))
        backbone = self.backbone.model_copy(update={"weights": path})
        return backbone.model_copy(update={"weights_licence": weights_licence(backbone)})
