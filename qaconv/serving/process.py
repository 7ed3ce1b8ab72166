"""Run the service in one process, or as one of several workers."""

import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
from qaconv.serving.request_limit import write_counts
from qaconv.serving.service import Service
from qaconv.serving.state_folder import COUNTS
from qaconv.serving.storage import Records
from qaconv.serving.telemetry import collect_metrics, count_over_workers, log_as_json
from qaconv.serving.version_switch import VersionSwitch

log = logging.getLogger(__name__)


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
    """

    params: Params
    host: str
    state: Path
    keys: Path | None
    target: str | None
    workers: int

    @property
    def champions(self) -> Champions:
        """The versions in the state folder."""
        return Champions(self.params.registry.model, self.state / "models", self.target)


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
    champions = settings.champions
    version, model = _load_active(champions)
    service = Service(records, settings.params.serve, version, model)
    housekeeping = Housekeeping(service, partial(champions.follow, service), settings.params.serve.poll_s)
    with listen() as listener:
        log.info("%s version %s answers at %s", champions.name, version, address)
        log_as_json()
        _run(settings, service, housekeeping, {}, listener)


def share_state(settings: ServiceSettings) -> None:
    """Prepare the state folder for workers, which are started afterwards."""
    write_counts(settings.state / COUNTS)
    count_over_workers(settings.state / "metrics")


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
    champions = settings.champions
    with records.lock("changing"):  # one downloads the first version, and none is replaced while it is loaded
        version, model = _load_active(champions)
        _, folder = champions.active
    service = Service(records, settings.params.serve, version, model)
    switch = VersionSwitch(champions, service, folder, number, settings.workers)
    housekeeping = Housekeeping(service, switch.follow, settings.params.serve.poll_s)
    announce()
    try:
        more = {"versions": switch.prepare, "identities": service.identities.updates.start_asked}
        _run(settings, service, housekeeping, more, listener)
    finally:
        records.close()


def _load_active(champions: Champions) -> tuple[str, ServedModel]:
    if champions.have_active_version:
        use_store()  # which may be down
    else:
        connect()
    return champions.active_version()


def _run(
    settings: ServiceSettings,
    service: Service,
    housekeeping: Housekeeping,
    more: Mapping[str, Callable[[], None]],
    listener: socket.socket,
) -> None:
    """Answer requests, and do what is to be done in the background, until SIGTERM or SIGINT."""
    collect_metrics(service)
    keys = Keys(settings.keys) if settings.keys else None
    app = create_app(service, keys, settings.params.serve.requests_per_minute, settings.host)
    keeper = IndexKeeper(service, more)
    housekeeping.start()
    keeper.start()
    try:
        with threadpool_limits(1):  # requests run in parallel, and more threads would wait for each other
            server.run(app, listener, is_shared=service.records.is_shared)
    finally:
        housekeeping.stop()
        keeper.stop()
        service.stop()
