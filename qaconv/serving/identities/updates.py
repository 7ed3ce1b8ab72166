"""Keep the identities of targets up to date in the background, one target at a time.

Sightings that have no identity are searched for, a batch at a time; pairs that may show one person become edges. Then
the sightings are clustered. Every batch is a transaction, so that an update that was killed goes on where it was.

While sightings are enrolled, an update works a tenth of the time, in one thread.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.errors import InputError
from qaconv.identities.graph import LIMIT
from qaconv.runtime.model import ServedModel
from qaconv.serving.active_version import ActiveVersion
from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.gallery import Filter, Gallery
from qaconv.serving.identities.clustering import cluster_again
from qaconv.serving.identities.progress import Progress, ProgressStore
from qaconv.serving.identities.store import Change, Edge, IdentityStore
from qaconv.serving.places import NotFound, number_camera
from qaconv.serving.reviews.store import ReviewStore
from qaconv.serving.storage import Records, Sighting
from qaconv.tlift import TLiftProfile

log = logging.getLogger(__name__)

BATCH = 32  # sightings searched for between two transactions
PAUSES = 9  # length of the pause after a search while sightings are enrolled, in searches
STOP_S = 5.0  # that a stop waits for a transaction


class IdentityUpdates:
    """Updates that run in a thread of their own, which exists while one is to do, in one worker.

    Args:
        records: the sightings.
        store: the identities.
        reviews: people's answers.
        active: returns the version that answers.
        now: returns the time, in seconds since 1970.
        is_enrolling: returns whether sightings are being enrolled.
        shortlist: sightings that a query is matched with in full.
        does_housekeeping: returns whether this worker is the one.

    Attributes:
        clustering: held while identities are computed and stored, or changed by a person.
    """

    def __init__(
        self,
        records: Records,
        store: IdentityStore,
        reviews: ReviewStore,
        active: Callable[[], ActiveVersion],
        now: Callable[[], float],
        is_enrolling: Callable[[], bool],
        shortlist: int,
        does_housekeeping: Callable[[], bool],
    ) -> None:
        self._records = records
        self._store = store
        self._reviews = reviews
        self._active = active
        self._now = now
        self._is_enrolling = is_enrolling
        self._shortlist = shortlist
        self._does_housekeeping = does_housekeeping
        self._lock = threading.Lock()
        self._progress = ProgressStore(records)
        self._waiting: list[str] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self.clustering = records.lock("identities")

    def progress(self, target: str) -> Progress:
        """Return how far a target's update is."""
        return self._progress.read(target)

    def start(self, target: str) -> None:
        """Update a target after those that wait already; do nothing if it waits or is being updated."""
        if not self._does_housekeeping():
            self._progress.ask(target)
            return
        with self._lock:
            if self._progress.get(target).state != "idle" or self._stopped.is_set():
                return
            self._progress.set(target, Progress("waiting"))
            self._waiting.append(target)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="identities", daemon=True)
                self._thread.start()

    def start_wanted(self) -> None:
        """Update the targets that have new sightings, a new model, or a new answer, and whose identities are wanted."""
        active = self._active()
        for target in self._store.wanted_targets():
            if target in active.galleries and self._has_work(target, active.model):
                self.start(target)

    def start_asked(self) -> None:
        """Update the targets that other workers were asked to update, or did not finish before they were killed."""
        if self._does_housekeeping():
            for target in self._progress.asked():
                self.start(target)

    def stop(self) -> None:
        """End the thread after its present search or transaction."""
        self._stopped.set()
        thread = self._thread
        if thread is not None:
            thread.join(STOP_S)

    def _has_work(self, target: str, model: ServedModel) -> bool:
        state = self._store.state(target)
        return (
            state.identities_of != digest_odds(model, target)
            or bool(self._store.unsearched(target, model.encoder_digest))
            or self._store.has_open(target)
            or self._reviews.last_answer(target) > (state.updated_s or 0)
        )

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stopped.is_set() or not self._waiting:
                    self._thread = None
                    return
                target = self._waiting.pop(0)
            fault = None
            try:
                self._update(target)
            except (InputError, NotFound, DiskFull, Busy) as error:
                fault = str(error)
                log.error("%s: identities are not updated: %s", target, fault)
            except Exception:
                fault = "the update has failed; the service's log says more"
                log.exception("%s: identities are not updated", target)
            self._progress.set(target, replace(self._progress.get(target), state="idle", fault=fault))

    def _update(self, target: str) -> None:
        """Search for new sightings and cluster them; give up if a new version begins to answer, which is updated to."""
        active = self._active()
        gallery, profile = active.find(target)
        check_odds(profile)
        digest = digest_odds(active.model, target)
        self._store.begin(target, digest)
        ids = self._store.unsearched(target, active.model.encoder_digest)
        self._progress.set(target, Progress("searching", 0, len(ids)))
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            edges = [edge for sighting in batch for edge in self._search(active.model, gallery, sighting)]
            is_outdated = self._active().model is not active.model
            if self._stopped.is_set() or is_outdated or not self._store.add_edges(target, digest, batch, edges):
                return
            self._progress.set(target, Progress("searching", start + len(batch), len(ids)))
        self._progress.set(target, Progress("clustering", len(ids), len(ids)))
        with self.clustering:
            self._cluster(target, digest, profile)

    def _search(self, model: ServedModel, gallery: Gallery, sighting: int) -> list[Edge]:
        """Return the edges of a stored sighting; pause after it while sightings are enrolled."""
        if self._stopped.is_set():
            return []
        began = time.perf_counter()
        stored = self._records.find(sighting)
        query_map = self._records.map_of(sighting, model.encoder_digest, model.map_shape)
        if stored is None or query_map is None:  # deleted meanwhile
            return []
        edges = find_edges(model, gallery, stored, query_map, self._shortlist)
        if self._is_enrolling():
            self._stopped.wait(PAUSES * (time.perf_counter() - began))
        return edges

    def _cluster(self, target: str, digest: str, profile: TLiftProfile) -> None:
        state = self._store.state(target)
        now = self._now()
        table = self._store.table(target)
        result = cluster_again(
            table,
            self._store.edges(target),
            self._reviews.agreed(target),
            profile,
            is_same_model=state.identities_of == digest,
            last=state.last,
        )
        self._store.set_identities(
            target,
            digest,
            zip(result.identity.tolist(), result.probability.tolist(), table["sighting"].tolist(), strict=True),
            [Change(kind, identity, other, None, now) for kind, identity, other in result.changes.to_numpy().tolist()],
            result.last,
            now,
        )


def check_odds(profile: TLiftProfile) -> None:
    """Check that a target's profile states probabilities that hold for the target.

    Raises:
        InputError: it does not.
    """
    if profile.match_odds is None:
        raise InputError(
            f"{profile.target}: identities need probabilities that hold for the target, its profile has none: "
            f"{profile.reason}; `qaconv identify --target {profile.target}` groups a dataset by scores alone"
        )


def digest_odds(model: ServedModel, target: str) -> str:
    """Return what log odds depend on: the digest of encoder, head, scale of the score, and profile."""
    profile = json.dumps(asdict(model.profiles[target]), sort_keys=True)
    return sha256((model.contract.model_dump_json() + profile).encode()).hexdigest()


def find_edges(
    model: ServedModel,
    gallery: Gallery,
    sighting: Sighting,
    query_map: NDArray[np.float32],
    shortlist: int,
) -> list[Edge]:
    """Search a gallery for a stored sighting, and return its edges.

    Args:
        model: matches and states probabilities.
        gallery: of the sighting's target.
        sighting: the query, as it was enrolled.
        query_map: its map, [C, h, w].
        shortlist: sightings to match in full.
    """
    profile = model.profiles[sighting.target]
    placed = number_camera(profile, sighting)
    candidates = gallery.search(model, query_map[None], Filter(), shortlist + 1)
    scores = expit(candidates.logits[0].astype(np.float64))
    count = len(scores)
    query = profile.leave_out_unknown(np.full(count, placed.camid), np.full(count, placed.time_s, np.float64))
    others = profile.leave_out_unknown(candidates.camids, candidates.times)
    log_odds = np.minimum(profile.pair_log_odds(scores, query, others, candidates.searched), LIMIT)
    likely = (log_odds > -LIMIT) & (candidates.ids != sighting.id)
    return [
        Edge(min(sighting.id, other), max(sighting.id, other), odds)
        for other, odds in zip(candidates.ids[likely].tolist(), log_odds[likely].tolist(), strict=True)
    ]
