"""Let one process at a time change a model's aliases, on any machine.

The registered model `<name>-promoting` is a queue. A process draws a ticket, a version of it, as the registry gives
each number once and never again. The lowest ticket holds the lock. Its holder renews it before every write, and those
who wait remove one that is not renewed, by their own clocks. So a killed process holds nothing up for long, and a slow
one stops at its next write once its ticket was removed.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from qaconv.errors import InputError

log = logging.getLogger(__name__)

WAIT_S = 180  # a promotion takes seconds
LEASE_S = 60  # a ticket that was not renewed for so long is a killed process's
POLL_S = 0.2
SOURCE = "lock:/ticket"  # a version must have a source, which a server takes if it is absolute; a ticket has no files
OWNER = "owner"  # tag: random, as numbers start again if someone deletes the queue
QUEUE = "Who promotes or rolls back now; each version is a process that does or waits. Has no model."


@dataclass(frozen=True)
class Lock:
    """A ticket.

    Attributes:
        queue: name of the registered model.
        ticket: number of its version.
        owner: random name of the holder.
        holder: its name for people.
    """

    queue: str
    ticket: str
    owner: str
    holder: str

    def renew(self) -> None:
        """Renew the lease; call it before every write.

        Raises:
            InputError: the ticket was removed, so another process may be writing.
        """
        try:
            ticket = MlflowClient().update_model_version(self.queue, self.ticket, self.holder)
        except MlflowException as error:
            if not is_missing(error):
                raise
            raise self._lost() from error
        if ticket.tags.get(OWNER) != self.owner:
            raise self._lost()

    def wait(self) -> None:
        """Wait until the ticket is the lowest.

        Raises:
            InputError: another process holds the lock for longer than WAIT_S, or the ticket was removed.
        """
        deadline = time.monotonic() + WAIT_S
        seen: tuple[str, int] | None = None
        seen_at = time.monotonic()
        while (first := self._first()).tags.get(OWNER) != self.owner:
            now = time.monotonic()
            state = (str(first.version), int(first.last_updated_timestamp or 0))
            if state != seen:
                seen = state
                seen_at = now
            elif now - seen_at > LEASE_S:
                log.warning("%s: %s was not renewed and is removed", self.queue, first.description)
                _remove(self.queue, state[0])
            if now > deadline:
                raise InputError(f"{self.queue}: {first.description} holds the lock; try again in a few minutes")
            time.sleep(POLL_S)

    def _first(self) -> ModelVersion:
        tickets = MlflowClient().search_model_versions(f"name = '{self.queue}'")
        if all(ticket.tags.get(OWNER) != self.owner for ticket in tickets):
            raise self._lost()
        return min(tickets, key=lambda ticket: int(ticket.version))

    def _lost(self) -> InputError:
        return InputError(
            f"{self.queue}: ticket {self.ticket} was removed, as it was not renewed for {LEASE_S} s or someone deleted "
            "it; nothing more was written, try again"
        )


@contextmanager
def locked(name: str) -> Iterator[Lock]:
    """Hold the lock of a registered model.

    Raises:
        InputError: another process holds it for longer than WAIT_S.
    """
    client = MlflowClient()
    queue = f"{name}-promoting"
    try:
        client.create_registered_model(queue, description=QUEUE)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    owner = uuid4().hex
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    tags = {OWNER: owner}
    ticket = client.create_model_version(queue, SOURCE, tags=tags, description=holder, await_creation_for=0)
    lock = Lock(queue, str(ticket.version), owner, holder)
    try:
        lock.wait()
        yield lock
    finally:
        # Only its own ticket: after a removal the number may be another's, if the queue was deleted.
        with suppress(InputError):
            lock.renew()
            _remove(queue, lock.ticket)


def is_missing(error: MlflowException) -> bool:
    """Return whether MLflow's error says that something does not exist."""
    return bool(error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST))


def _remove(queue: str, ticket: str) -> None:
    try:
        MlflowClient().delete_model_version(queue, ticket)
    except MlflowException as error:
        if not is_missing(error):
            raise
