"""Two profiles of one deployment and model go in; what has changed between them comes out, in words."""

from itertools import combinations

from qaconv.tlift.profile import TLiftProfile

MOVED_SECONDS = 30.0  # a pair's centre that moved by more: a camera was moved, or a clock was set
GAIN_SHARE = 0.5  # of the old gain: a smaller new one is named


def compare(old: TLiftProfile, new: TLiftProfile) -> list[str]:
    """One line a change that an operator should know of; none if the deployment is as it was.

    Args:
        old: the profile that is replaced.
        new: the one that replaces it.
    """
    changes = []
    if old.active != new.active:
        changes.append(f"time is {'used now' if new.active else 'no longer used'}: {new.reason}")
    for word, camids in (("new", set(new.camids) - set(old.camids)), ("gone", set(old.camids) - set(new.camids))):
        if camids:
            changes.append(f"cameras {word}: {sorted(camids)}")
    moved = {
        pair: new_at - old_at for pair, old_at, new_at in _centres(old, new) if abs(new_at - old_at) > MOVED_SECONDS
    }
    for pair, seconds in moved.items():
        changes.append(f"cameras {pair[0]} and {pair[1]}: transit times moved by {seconds:+.0f} s")
    for camid in new.camids:
        own = [pair for pair in moved if camid in pair]
        if len(own) > 1 and len(own) > 0.5 * (len(new.camids) - 1):
            changes.append(f"camera {camid}: most of its transit times moved; was it moved, or its clock set?")
    before, now = (float(profile.evidence.get("gain_nats", 0.0)) for profile in (old, new))
    if now < GAIN_SHARE * before:
        changes.append(f"matches gain {now:.2f} nats from their times, {before:.2f} before")
    return changes


def _centres(old: TLiftProfile, new: TLiftProfile) -> list[tuple[tuple[int, int], float, float]]:
    """Pairs of cameras that both profiles have placed, with both centres."""
    before = dict(zip(combinations(old.camids, 2), old.transit.centres, strict=False))
    after = dict(zip(combinations(new.camids, 2), new.transit.centres, strict=False))
    both = [(pair, before.get(pair), at) for pair, at in after.items()]
    return [(pair, old_at, new_at) for pair, old_at, new_at in both if old_at is not None and new_at is not None]
