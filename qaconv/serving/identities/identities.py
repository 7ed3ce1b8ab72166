"""Give people identities, and list, show, merge and split them.

An identity is the sightings of one target that show one person. Numbers are given once. docs/serving.md says how
identities come about.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from qaconv.errors import InputError
from qaconv.serving.active_version import ActiveVersion
from qaconv.serving.identities.progress import Progress
from qaconv.serving.identities.store import Change, IdentityStore, State
from qaconv.serving.identities.updates import IdentityUpdates, check_odds
from qaconv.serving.identities.views import (
    Identity,
    Visit,
    Wanted,
    list_identities,
    list_journeys,
    most_probable,
    show_journey,
)
from qaconv.serving.places import NotFound, number_cameras
from qaconv.serving.reviews.pairs import state_pair
from qaconv.serving.reviews.store import Draw, ScoredPair
from qaconv.serving.storage import Records
from qaconv.tlift import TLiftProfile


class Identities:
    """The identities of all targets.

    Args:
        records: the sightings.
        store: their identities.
        updates: give sightings identities.
        active: returns the version that answers.
        now: returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        records: Records,
        store: IdentityStore,
        updates: IdentityUpdates,
        active: Callable[[], ActiveVersion],
        now: Callable[[], float],
    ) -> None:
        self._records = records
        self._store = store
        self.updates = updates
        self._active = active
        self._now = now

    def start(self, target: str) -> None:
        """Give the sightings of a target identities, in the background, and those that are enrolled from now on too.

        Raises:
            NotFound: unknown target.
            InputError: its profile states no probabilities that hold for it.
        """
        check_odds(self._profile(target))
        self._store.want(target)
        self.updates.start(target)

    def state(self, target: str) -> tuple[State, Progress]:
        """Return what is known about a target's identities, and how far their update is.

        Raises:
            NotFound: unknown target.
        """
        self._profile(target)
        return self._store.state(target), self.updates.progress(target)

    def forget(self, target: str) -> int:
        """Delete the identities of a target, and give new sightings none; return the number of sightings that had one.

        The target may be one that the active version has no profile for.

        Raises:
            NotFound: unknown target.
        """
        if target not in self._active().galleries and not self._store.state(target).last:
            self._profile(target)
        with self.updates.clustering:
            return self._store.forget(target)

    def list_identities(
        self, target: str, wanted: Wanted, skip: int, limit: int, *, least_certain_first: bool
    ) -> tuple[int, list[Identity]]:
        """Return how many identities there are, and up to `limit` of them after `skip`, by number or certainty.

        Raises:
            NotFound: unknown target or camera.
            InputError: a camera or a time has another form than in the target's profile.
        """
        profile = self._profile(target)
        table = self._table(target)
        return list_identities(table, profile, wanted, skip, limit, least_certain_first=least_certain_first)

    def list_journeys(self, target: str, wanted: Wanted, skip: int, limit: int) -> tuple[int, list[Visit]]:
        """Return how many visits there are, and up to `limit` of them after `skip`, in order of time.

        Raises:
            NotFound: unknown target or camera.
            InputError: a camera or a time has another form than in the target's profile.
        """
        return list_journeys(self._table(target), self._profile(target), wanted, skip, limit)

    def show(self, target: str, identity: int) -> tuple[list[Visit], list[Change]]:
        """Return the visits of an identity with their sightings, and its merges and splits.

        Raises:
            NotFound: unknown target or identity.
        """
        members = self._members(target, identity)
        return show_journey(members), self._store.changes(target, identity)

    def merge(self, target: str, identity: int, other: int, who: str) -> None:
        """Join the sightings of `other` to an identity. It is also a review of the most probable sighting of each.

        Args:
            target: of the identities.
            identity: whose number stays.
            other: ends.
            who: name of the person's key.

        Raises:
            NotFound: unknown target or identity.
            InputError: they are one identity.
        """
        if identity == other:
            raise InputError(f"other must be another identity than {identity}, got {other}")
        with self.updates.clustering:
            kept = self._members(target, identity)
            moved = self._members(target, other)
            change = Change("merge", identity, other, who, self._now())
            self._move(target, kept, moved, change, who)

    def split(self, target: str, identity: int, sightings: Sequence[int], who: str) -> int:
        """Move sightings of an identity to a new one, and return its number.

        It is also a review of the most probable sighting of each.

        Raises:
            NotFound: unknown target or identity.
            InputError: a sighting is not of the identity, or none remains.
        """
        with self.updates.clustering:
            members = self._members(target, identity)
            is_moved = members["sighting"].isin(sightings)
            moved, kept = members[is_moved], members[~is_moved]
            if strange := sorted(set(sightings) - set(moved["sighting"].tolist())):
                raise InputError(f"sightings must be of identity {identity}, got {strange[:10]}")
            if kept.empty:
                raise InputError(f"sightings must leave one in identity {identity}, got all {len(moved)}")
            change = Change("split", identity, self._store.state(target).last + 1, who, self._now())
            self._move(target, kept, moved, change, who)
        return change.other

    def _move(self, target: str, kept: pd.DataFrame, moved: pd.DataFrame, change: Change, who: str) -> None:
        """Store a person's merge or split."""
        first, second = sorted((most_probable(kept), most_probable(moved)))
        pair = self._pair(target, first, second)
        self._store.move(target, kept["sighting"].tolist(), moved["sighting"].tolist(), change, who, pair)

    def _pair(self, target: str, first: int, second: int) -> tuple[ScoredPair, Draw]:
        one = self._records.find(first)
        other = self._records.find(second)
        if one is None or other is None:
            raise NotFound(f"a sighting of {target} was deleted meanwhile; try again")
        return state_pair(self._records, self._active(), target, one, other)

    def _profile(self, target: str) -> TLiftProfile:
        return self._active().find(target)[1]

    def _table(self, target: str) -> pd.DataFrame:
        """Return the sightings that have an identity, with their cameras as the profile numbers them."""
        profile = self._profile(target)
        table = self._store.table(target)
        return number_cameras(profile, table[table["identity"] > 0].reset_index(drop=True))

    def _members(self, target: str, identity: int) -> pd.DataFrame:
        profile = self._profile(target)
        members = self._store.table(target, identity)
        if members.empty:
            raise NotFound(f"{target} has no identity {identity}")
        return number_cameras(profile, members)
