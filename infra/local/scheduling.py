"""A Prefect server goes in; it knows the work pools, the limit of GPU slots, the deployments and the automations."""

import json
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
from qaconv.errors import InputError

POOLS = ("flows", "cpu", "gpu")  # flows: what only orders and waits
GPU_SLOTS = 1
DEPLOYMENTS = Path("infra/prefect/prefect.yaml")
BLOCK, NOBODY = "people", "00000000-0000-0000-0000-000000000000"  # a block of Prefect's, and what stands for its id
AUTOMATIONS = PROJECT / "infra/prefect/automations.yaml"


def set_up(environment: Environment) -> None:
    """Makes what is missing and renews what the project's files say; runs and people's own objects stay.

    Raises:
        InputError: Prefect refuses a deployment.
    """
    with _client(environment) as client:
        for pool in POOLS:
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"), overwrite=True)
        client.upsert_global_concurrency_limit_by_name("gpu", GPU_SLOTS)
        for written in _automations(environment):
            _automate(client, written)
    _deploy(environment)


def expect_worker(environment: Environment, name: str, since_s: float) -> None:
    """Raises LookupError unless a worker, such as `worker-cpu-1`, has told the server since then that it is there."""
    with _client(environment) as client:
        workers = client.read_workers_for_work_pool(name.split("-")[1])
    beats = [each.last_heartbeat_time for each in workers if each.name == name]
    if not any(beat and beat.timestamp() >= since_s for beat in beats):
        raise LookupError("Prefect's server has not heard of it")


def _client(environment: Environment) -> SyncPrefectClient:
    return SyncPrefectClient(environment["PREFECT_API_URL"], auth_string=environment["PREFECT_API_AUTH_STRING"])


def _automations(environment: Environment) -> list[dict[str, Any]]:
    """What the file says; notifications only where there is a webhook to send them to."""
    text = AUTOMATIONS.read_text(encoding="utf-8")
    if url := environment.get(WEBHOOK):
        with temporary_settings(
            {
                PREFECT_API_URL: environment["PREFECT_API_URL"],
                PREFECT_API_AUTH_STRING: environment["PREFECT_API_AUTH_STRING"],
            }
        ):
            block = Webhook.model_validate({"url": url, "headers": {"Content-Type": "application/json"}})
            webhook = block.save(BLOCK, overwrite=True)
        text = text.replace(NOBODY, str(webhook))
    return [each for each in yaml.safe_load(text)["automations"] if NOBODY not in str(each)]


def _automate(client: SyncPrefectClient, written: dict[str, Any]) -> None:
    """An automation that is as written is left alone: Prefect forgets what it waits for when it is updated."""
    digest = sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:12]
    automation = AutomationCore.model_validate({**written, "description": f"{AUTOMATIONS.name}, {digest}"})
    known = client.read_automations_by_name(automation.name)
    if not known:
        client.create_automation(automation)
    elif known[0].description != automation.description:
        client.update_automation(known[0].id, automation)


def _deploy(environment: Environment) -> None:
    """By Prefect's own command, which reads prefect.yaml."""
    command = [str(COMMANDS / "prefect"), "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    variables = environment.for_processes() | {"PREFECT_HOME": str(LOCAL / "prefect")}
    done = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{DEPLOYMENTS}: Prefect refuses it: {(done.stdout + done.stderr).strip()}")
