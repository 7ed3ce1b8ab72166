"""Read the recipe cvpr2022, which every part that trains starts from."""

from pathlib import Path
from typing import Any

import yaml

from qaconv.config import AugmentConfig, TrainConfig
from qaconv.training import trainer

# By path: the package of recipes imports a YAML editor, which a machine for the GPU check does not have.
FILE = Path(trainer.__file__).with_name("recipes") / "cvpr2022.yaml"
BLOCKS: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
AUGMENT = AugmentConfig.model_validate(BLOCKS["augment"])


def train_config(**changes: Any) -> TrainConfig:
    """Return the recipe's training settings with some of them changed."""
    return TrainConfig.model_validate({**BLOCKS["train"], "datasets": ["drawn"], **changes})
