"""Say under which licence a backbone's weights are."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from qaconv.config import BackboneConfig
from qaconv.config.licences import refuse_forbidding
from qaconv.errors import InputError, missing_package

KEY = "weights_licence"  # in the metadata of a .safetensors file
UNKNOWN = "unknown"
TORCHVISION = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms may apply"
QACONV = "MIT (ShengcaiLiao/QAConv)"  # of the authors' networks


def weights_licence(backbone: BackboneConfig) -> str | None:
    """Return the licence of a backbone's weights; None if it begins without any.

    A file has the licence that the settings name, or the one that a network of this project wrote into it. Weights that
    torchvision or timm download have the licence that is known of them, or that timm names.

    Args:
        backbone: its `weights` are none, imagenet or the path of a file.

    Raises:
        InputError: timm is not installed, or the licence that it names forbids this use.
    """
    if backbone.weights == "none":
        return None
    if backbone.weights_licence:
        return backbone.weights_licence
    if backbone.weights != "imagenet":
        return _read_licence(Path(backbone.weights)) or UNKNOWN
    kind, _, name = backbone.name.partition(":")
    if kind != "timm":
        return TORCHVISION
    try:
        from timm.models import get_pretrained_cfg  # an extra
    except ImportError as error:
        raise InputError(f"backbone.name {backbone.name}: {missing_package('timm')}") from error
    known = get_pretrained_cfg(name)
    licence: str = known.license if known and known.license else UNKNOWN
    try:
        refuse_forbidding("backbone.weights", licence)
    except ValueError as error:
        raise InputError(str(error)) from error
    return licence


def as_metadata(licence: str | None) -> dict[str, str] | None:
    """Return a licence as a .safetensors file keeps it."""
    return {KEY: licence} if licence else None


def _read_licence(path: Path) -> str | None:
    """Read the licence from a file of a network of this project; None for any other file."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "numpy") as file:
            licence: str | None = (file.metadata() or {}).get(KEY)
            return licence
    except (OSError, SafetensorError):
        return None  # whoever reads its tensors says what is wrong
