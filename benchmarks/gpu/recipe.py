"""Read QAConv's recipe of cvpr2022, which every part that trains starts from."""

from pathlib import Path
from typing import Any

import yaml

from qaconv.config import AugmentConfig, TrainConfig
from qaconv.training import trainer
from qaconv.training.methods.qaconv import QAConvMethod

# By path: the package of recipes imports a YAML editor, which a machine for the GPU check does not have.
FILE = Path(trainer.__file__).with_name("recipes") / "cvpr2022.yaml"
VALUES: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["methods"]["qaconv"]
AUGMENT = AugmentConfig.model_validate(VALUES["augment"])


def train_config(**changes: Any) -> TrainConfig:
    """Return the recipe's training settings with some of them changed."""
    return TrainConfig.model_validate({**VALUES["train"], **changes})


def make_method(**changes: Any) -> QAConvMethod:
    """Return the recipe with some of its settings changed."""
    return QAConvMethod.model_validate({**VALUES, **changes})
