"""What time says about who is who: scores and times go in; scores lifted where people came by together come out."""

from qaconv.tlift.lift import temporal_lift
from qaconv.tlift.profile import TLiftProfile

__all__ = ["TLiftProfile", "temporal_lift"]
