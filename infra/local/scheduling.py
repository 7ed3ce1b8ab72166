"""Set up a Prefect server: work pools, the limit of GPU slots, deployments and automations."""

import json
import logging
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from infra.local.environment import LOCAL, PROJECT, WEBHOOK, Environment
from infra.local.supervisor import COMMANDS
from infra.prefect.outdated import delete_outdated
from qaconv.errors import InputError

log = logging.getLogger(__name__)

POOLS = ("flows", "cpu", "gpu")  # `flows` is for flows that start others and wait
GPU_SLOTS = 1
DEPLOYMENTS = Path("infra/prefect/prefect.yaml")
AUTOMATIONS = PROJECT / "infra/prefect/automations.yaml"
WEBHOOK_BLOCK = "people"  # name of Prefect's block that holds the webhook's address
NO_BLOCK = "00000000-0000-0000-0000-000000000000"  # in automations.yaml, stands for the id of that block


def set_up(environment: Environment) -> None:
    """Create what is missing, and update or delete what the project's files have changed.

    Runs, and people's own pools, deployments and automations, are left alone.

    Raises:
        InputError: Prefect rejects a deployment.
    """
    with _client(environment) as client:
        for pool in POOLS:
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"), overwrite=True)
        client.upsert_global_concurrency_limit_by_name("gpu", GPU_SLOTS)
        for automation in _read_automations(environment):
            _update_automation(client, automation)
        _delete_outdated_automations(client)
        _deploy(environment)
        for deployment in delete_outdated(client):
            log.info("deleted the deployment %s, which %s no longer has", deployment, DEPLOYMENTS)


def expect_worker(environment: Environment, name: str, since_s: float) -> None:
    """Check that a worker has reported to the server.

    Args:
        environment: variables of the servers.
        name: name of the worker, such as `worker-cpu-1`.
        since_s: time of the earliest report that counts, in seconds since 1970.

    Raises:
        LookupError: the worker has not reported since then.
    """
    with _client(environment) as client:
        workers = client.read_workers_for_work_pool(name.split("-")[1])
    heartbeats = [worker.last_heartbeat_time for worker in workers if worker.name == name]
    if not any(heartbeat and heartbeat.timestamp() >= since_s for heartbeat in heartbeats):
        raise LookupError("it has not reported to Prefect's server")


def _client(environment: Environment) -> SyncPrefectClient:
    return SyncPrefectClient(environment["PREFECT_API_URL"], auth_string=environment["PREFECT_API_AUTH_STRING"])


def _read_automations(environment: Environment) -> list[dict[str, Any]]:
    """Read automations.yaml; notifications are left out if there is no webhook."""
    text = AUTOMATIONS.read_text(encoding="utf-8")
    if url := environment.get(WEBHOOK):
        with temporary_settings(
            {
                PREFECT_API_URL: environment["PREFECT_API_URL"],
                PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
            }
        ):
            block = Webhook.model_validate({"url": url, "headers": {"Content-Type": "application/json"}})
            block_id = block.save(WEBHOOK_BLOCK, overwrite=True)
        text = text.replace(NO_BLOCK, str(block_id))
    return [entry for entry in yaml.safe_load(text)["automations"] if NO_BLOCK not in str(entry)]


def _update_automation(client: SyncPrefectClient, written: dict[str, Any]) -> None:
    """Create or update an automation; an unchanged one is left alone, as an update resets what it waits for."""
    digest = sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:12]
    automation = AutomationCore.model_validate({**written, "description": f"{AUTOMATIONS.name}, {digest}"})
    existing = client.read_automations_by_name(automation.name)
    if not existing:
        client.create_automation(automation)
    elif existing[0].description != automation.description:
        client.update_automation(existing[0].id, automation)


def _delete_outdated_automations(client: SyncPrefectClient) -> None:
    """Delete the automations that were made from automations.yaml, by their description, and are no longer in it."""
    names = {entry["name"] for entry in yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]}
    for automation in client.read_automations():
        if automation.description.startswith(f"{AUTOMATIONS.name}, ") and automation.name not in names:
            client.delete_automation(automation.id)
            log.info("deleted the automation %r, which %s no longer has", automation.name, AUTOMATIONS.name)


def _deploy(environment: Environment) -> None:
    """Run `prefect deploy`, which reads prefect.yaml."""
    command = [str(COMMANDS / "prefect"), "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    variables = environment.for_processes() | {"PREFECT_HOME": str(LOCAL / "prefect")}
    process = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=False)
    if process.returncode:
        raise InputError(f"{DEPLOYMENTS}: Prefect rejects it: {(process.stdout + process.stderr).strip()}")
