"""The registered model at work: crops go in, ranked matches and why come out. Needs neither torch nor a checkout.

A registered version carries this package with it; everything imported here is in `qaconv.registry.SHIPPED`.
"""

from qaconv.inference.correspondences import Correspondence, correspondences
from qaconv.inference.crops import read_crop
from qaconv.inference.model import ServedModel, Threshold

__all__ = ["Correspondence", "ServedModel", "Threshold", "correspondences", "read_crop"]
