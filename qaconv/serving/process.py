"""Run the service in one process, or as one of several workers."""

import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path

from threadpoolctl import threadpool_limits

from qaconv.config import Params
from qaconv.registry.runs import connect, use_store
from qaconv.runtime.model import ServedModel
from qaconv.serving import server
from qaconv.serving.app import create_app
from qaconv.serving.auth import Keys
from qaconv.serving.index_keeper import IndexKeeper
from qaconv.serving.model_updates import Champions, Housekeeping
from qaconv.serving.replication.client import LeaderClient
from qaconv.serving.replication.follower import Follower, FollowingThread, LeaderVersions
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.serving.telemetry import collect_metrics, log_as_json
from qaconv.serving.version_switch import VersionSwitch
from qaconv.serving.versions import VERSIONS, Versions

log = logging.getLogger(__name__)

FOLLOW_S = 1.0  # between two looks of a follower for its leader's version


@dataclass(frozen=True)
class ServiceSettings:
    """How to serve.

    Attributes:
        params: settings `serve` and `registry`.
        host: address that is listened on.
        state: folder of the galleries and the active version.
        keys: file of keys. None: no key is asked for.
        target: the one to serve. None: all.
        workers: number of processes that answer.
        follow: address of the leader whose galleries are copied. None: the galleries are this service's own.
    """

    params: Params
    host: str
    state: Path
    keys: Path | None
    target: str | None
    workers: int
    follow: str | None = None

    @property
    def versions(self) -> Path:
        """Folder of the versions."""
        return self.state / VERSIONS

    @property
    def champions(self) -> Champions:
        """The versions in the state folder, which follow the registry."""
        return Champions(self.params.registry.model, self.versions, self.target)


def run_alone(settings: ServiceSettings, records: Records, listen: Callable[[], socket.socket], address: str) -> None:
    """Run the service in this process until it is stopped.

    Args:
        settings: how.
        records: the sightings.
        listen: opens the socket.
        address: of the service, for the log.

    Raises:
        InputError: see `commands.serve`.
    """
    worker = _Worker(settings, records, 0)
    with listen() as listener:
        log.info("version %s answers at %s", worker.service.active.version, address)
        log_as_json()
        worker.run(listener)


def run_worker(settings: ServiceSettings, number: int, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Run one of the service's workers until it is stopped.

    Args:
        settings: how.
        number: of this worker, from 0.
        listener: the socket of all workers.
        announce: called when it is ready.

    Raises:
        InputError: see `commands.serve`.
    """
    log_as_json()
    records = Records(settings.state, is_shared=True)
    try:
        worker = _Worker(settings, records, number)
        announce()
        worker.run(listener)
    finally:
        records.close()


class _Worker:
    """One process of the service."""

    def __init__(self, settings: ServiceSettings, records: Records, number: int) -> None:
        self._settings = settings
        client = LeaderClient(settings.follow) if settings.follow else None
        versions = LeaderVersions(settings.versions, client) if client else settings.champions
        with records.lock("changing"):  # one downloads the first version, and none is replaced while it is loaded
            version, model = _load_active(versions)
            _, folder = versions.active
        self.service = Service(records, settings.params.serve, version, model)
        self._switch = VersionSwitch(versions, self.service, folder, number, settings.workers)
        self._follower = None
        if client and isinstance(versions, LeaderVersions):
            self._follower = Follower(self.service, client, versions, _end_service)

    def run(self, listener: socket.socket) -> None:
        """Answer requests, and do what is to be done in the background, until SIGTERM or SIGINT."""
        settings, service = self._settings, self.service
        collect_metrics(service, self._follower.link if self._follower else None)
        keys = Keys(settings.keys) if settings.keys else None
        app = create_app(service, keys, settings.params.serve.requests_per_minute, settings.host, self._follower)
        threads = self._threads()
        for thread in threads:
            thread.start()
        try:
            with threadpool_limits(1):  # requests run in parallel, and more threads would wait for each other
                server.run(app, listener, is_shared=service.records.is_shared)
        finally:
            for thread in threads:
                thread.stop()
            service.stop()

    def _threads(self) -> list[Housekeeping | IndexKeeper | FollowingThread]:
        """Return the threads; a follower leaves retention, identities and the registry to its leader."""
        service, switch = self.service, self._switch
        updates = service.identities.updates
        if self._follower:
            return [
                Housekeeping(service, [partial(self._follower.follow_version, switch.follow)], FOLLOW_S),
                IndexKeeper(service, {"versions": switch.prepare}),
                FollowingThread(service, self._follower),
            ]
        calls = [service.delete_expired, updates.start_wanted, switch.follow]
        return [
            Housekeeping(service, calls, self._settings.params.serve.poll_s),
            IndexKeeper(service, {"versions": switch.prepare, "identities": updates.start_asked}),
        ]


def _load_active(versions: Versions) -> tuple[str, ServedModel]:
    if versions.have_active_version:
        use_store()  # which may be down
    else:
        connect()
    return versions.active_version()


def _end_service() -> None:
    """End all processes of the service."""
    parent = parent_process()
    os.kill(parent.pid if parent and parent.pid else os.getpid(), signal.SIGTERM)
