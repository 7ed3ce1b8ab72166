"""What time says about who is who: scores and times go in; scores lifted where walks and companions agree come out."""

from qaconv.tlift.fit import fit
from qaconv.tlift.lift import temporal_lift
from qaconv.tlift.profile import TLiftProfile

__all__ = ["TLiftProfile", "fit", "temporal_lift"]
