"""Each program gets the secrets that it needs: in processes of one machine, and in pods of a cluster."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import celpy
import pytest
import yaml
from celpy.adapter import json_to_cel

from infra.local.environment import Environment, _new_variables
from infra.local.supervisor import CONFIG, SECRETS, Supervisor

INFRA = Path(__file__).parents[2] / "infra"
K8S = INFRA / "k8s"
READ_BY_CLIENTS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
Object = dict[str, Any]


@pytest.mark.parametrize("program", SECRETS)
def test_a_local_program_keeps_its_own_secrets_alone(program: str) -> None:
    variables = {name: f"value of {name}" for name in _new_variables()}
    command = Supervisor(Environment(variables))._without_others(program).split()
    output = subprocess.run([*command, "env"], env=variables, capture_output=True, text=True, check=True).stdout
    kept = {line.split("=")[0] for line in output.splitlines()}
    assert {name for name in kept if re.search("PASSWORD|SECRET|KEY|AUTH", name)} == set(SECRETS[program])
    assert {"POSTGRES_PORT", "PREFECT_API_URL", "AWS_ENDPOINT_URL"} <= kept


def test_every_local_program_is_started_without_the_secrets_of_others() -> None:
    programs = re.findall(r"\[program:(.+)\]\ncommand=%\(ENV_(.+?)\)s", CONFIG.read_text(encoding="utf-8"))
    assert programs == [(name, f"RUN_{name.upper().replace('-', '_')}") for name in SECRETS]


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the variables of each Secret that the script creates from the example's names."""
    folder = tmp_path_factory.mktemp("secrets")
    names = re.findall(r"^([A-Z_0-9]+)=", (INFRA / "docker/secrets.example").read_text(encoding="utf-8"), re.MULTILINE)
    (folder / "secrets.env").write_text("".join(f"{name}=x\n" for name in names), encoding="utf-8")
    kubectl = folder / "kubectl"
    kubectl.write_text(f'#!/bin/sh\ncat > "{folder}/$6.created"\n', encoding="utf-8")
    kubectl.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run([K8S / "create_secrets.sh", folder / "secrets.env"], env=environment, check=True)
    return {
        file.stem: set(re.findall(r"^([A-Z_0-9]+)=", file.read_text(encoding="utf-8"), re.MULTILINE))
        for file in folder.glob("*.created")
    }


def test_every_secret_that_a_pod_reads_is_created_and_no_other(created: dict[str, set[str]]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in K8S.rglob("*.*"))
    read = set(re.findall(r"secretRef\W+name\W+([a-z0-9-]+)", text))
    assert {name for name in read if not name.startswith("galleries-")} == set(created)


def test_the_commands_for_each_secret_of_the_galleries_are_documented() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (K8S / "galleries").glob("*.yaml"))
    read = set(re.findall(r"(?:secretRef\W+name|secretName)\W+(galleries-[a-z]+)", text))
    documented = (INFRA.parent / "docs/operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"create secret (?:generic|tls) (galleries-[a-z]+)", documented)) == read


@pytest.mark.parametrize("server", ["s3", "mlflow", "prefect"])
def test_a_server_s_secret_has_the_variables_that_it_reads(created: dict[str, set[str]], server: str) -> None:
    script = (INFRA / "docker/serve.sh").read_text(encoding="utf-8")
    (branch,) = re.findall(rf"^{server}\)\n(.*?)^  ;;", script, re.MULTILINE | re.DOTALL)
    read = set(re.findall(r"\$([A-Z_0-9]*(?:PASSWORD|KEY|AUTH|USERNAME)[A-Z_0-9]*)", branch))
    needed_by_its_client = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert read and read <= created[f"qaconv-{server}"]
    others = {
        name for name in created[f"qaconv-{server}"] - read if not name.startswith(("WEED_JWT_", "MLFLOW_FLASK_"))
    }
    assert others == (needed_by_its_client if server == "mlflow" else set())


def test_postgres_has_the_passwords_of_the_roles_and_clients_have_none_of_a_database(
    created: dict[str, set[str]],
) -> None:
    script = (INFRA / "docker/create_databases.sh").read_text(encoding="utf-8")
    assert created["qaconv-postgres"] == {"POSTGRES_PASSWORD", *re.findall(r'"\$([A-Z_]+_PASSWORD)"', script)}
    assert created["qaconv-clients"] == {*READ_BY_CLIENTS, "PREFECT_API_AUTH_STRING", "QACONV_REPOSITORY"}
    assert created["qaconv-workers"] == {"PREFECT_API_AUTH_STRING"}


def job(pool: str = "cpu", **changes: Any) -> Object:
    """Return a pool's Job with changes to its pod: `container` holds changes to the first container."""
    template = json.loads((K8S / f"workers/{pool}.json").read_text(encoding="utf-8"))
    manifest: Object = template["job_configuration"]["job_manifest"]
    pod = manifest["spec"]["template"]["spec"]
    pod["containers"][0] |= {"env": []} | changes.pop("container", {})
    pod |= changes
    return manifest


def admitted(manifest: Object) -> bool:
    """Evaluate the policy of workers' Jobs on a Job."""
    return evaluate_policy(K8S / "workers/admission.yaml", manifest)


def evaluate_policy(file: Path, manifest: Object) -> bool:
    """Evaluate the expressions of a file's admission policy on an object."""
    policy = next(yaml.safe_load_all(file.read_text(encoding="utf-8")))["spec"]
    environment = celpy.Environment()
    context = {"object": json_to_cel(manifest)}

    def evaluate(expression: str, values: dict[str, Any]) -> Any:
        return environment.program(environment.compile(expression.replace("variables.", "variables_"))).evaluate(values)

    for variable in policy["variables"]:
        context[f"variables_{variable['name']}"] = evaluate(variable["expression"], context)
    return all(evaluate(rule["expression"], context) for rule in policy["validations"])


@pytest.mark.parametrize("pool", ["cpu", "gpu"])
def test_a_pool_s_job_is_admitted(pool: str) -> None:
    assert admitted(job(pool))


SECRET = {"secretRef": {"name": "qaconv-postgres"}}
CONTAINER = job()["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"container": {"envFrom": [SECRET]}},
        {"container": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "qaconv-s3", "key": "A"}}}]}},
        {"initContainers": [{**CONTAINER, "envFrom": [SECRET]}]},
        {"volumes": [{"name": "a", "secret": {"secretName": "qaconv-clients"}}]},
        {"volumes": [{"name": "a", "projected": {"sources": [{"secret": {"name": "qaconv-mlflow"}}]}}]},
        {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "data-postgres-0"}}]},
        {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
        {"automountServiceAccountToken": True},
        {"serviceAccountName": "worker"},
    ],
    ids=str,
)
def test_a_job_that_reaches_for_another_secret_is_refused(changes: Object) -> None:
    assert not admitted(job(**changes))
