"""The files for Docker and Kubernetes, held against published schemas: neither has run them here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api import models as kubeflow
from prefect.utilities.templating import apply_values

INFRA = Path(__file__).parents[2] / "infra"
FILES = sorted((INFRA / "k8s").rglob("*.yaml"))
KUBEFLOW = {"TrainJob": kubeflow.TrainerV1alpha1TrainJob, "TrainingRuntime": kubeflow.TrainerV1alpha1TrainingRuntime}


def objects(text):
    return [each for each in yaml.safe_load_all(text) if each and each["kind"] != "Kustomization"]


def check(thing):
    """By the API's schema of Kubernetes 1.37, which knows no other field; Kubeflow's own by its models."""
    if thing["kind"] in KUBEFLOW:
        model = KUBEFLOW[thing["kind"]].from_dict(thing)
        assert model.to_dict() == thing  # what its model does not know would be lost on the way
    else:
        kubernetes_validate.validate(thing, "1.37", strict=True)


EVERY = [each for path in FILES for each in objects(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("thing", EVERY, ids=lambda thing: f"{thing['kind']}-{thing['metadata']['name']}")
def test_every_object_is_what_its_schema_says(thing):
    check(thing)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds kustomizations, and is not installed")
@pytest.mark.parametrize("folder", ["k8s", "k8s/serving", "k8s/training"])
def test_kustomize_builds_what_the_schemas_allow(folder):
    built = subprocess.run(["kubectl", "kustomize", INFRA / folder], capture_output=True, text=True, check=True).stdout
    for thing in objects(built):
        check(thing)
        assert thing["kind"] == "Namespace" or thing["metadata"]["namespace"] == "qaconv"


def test_a_kustomization_leaves_out_no_file_beside_it():
    for file in (INFRA / "k8s").rglob("kustomization.yaml"):
        named = {file.parent / each for each in yaml.safe_load(file.read_text(encoding="utf-8"))["resources"]}
        inner = {each.parent for each in file.parent.rglob("kustomization.yaml")} - {file.parent}
        beside = {path for path in file.parent.rglob("*.yaml") if not inner & set(path.parents)}
        assert named == beside - {file}


@pytest.mark.parametrize("pool", ["cpu", "gpu"])
def test_a_work_pool_s_template_makes_a_job_and_uses_every_variable(pool):
    template = json.loads((INFRA / f"k8s/workers/{pool}.json").read_text(encoding="utf-8"))
    variables = template["variables"]["properties"]
    made_by_prefect = {"name": "stage", "command": ["prefect", "flow-run", "execute"], "env": [], "labels": {}}
    defaults = {name: each["default"] for name, each in variables.items() if "default" in each}
    job = apply_values(template["job_configuration"], {**defaults, **made_by_prefect})["job_manifest"]
    pod = job["spec"]["template"]["spec"]
    # Prefect refuses a template without these two in the pod's spec, from where Kubernetes drops them.
    assert (pod.pop("parallelism"), pod.pop("completions"), pod["containers"][0]["name"]) == (1, 1, "prefect-job")
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert all(f"{{{{ {name} }}}}" in json.dumps(template["job_configuration"]) for name in variables)
    limits = pod["containers"][0]["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == (1 if pool == "gpu" else None)


def containers(thing):
    if isinstance(thing, dict):
        yield from (each for key in ("containers", "initContainers") for each in thing.get(key, ()))
        for value in thing.values():
            yield from containers(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from containers(value)


def test_every_container_has_a_limit_of_memory_and_no_secret_is_written_down():
    found = [each for thing in EVERY if thing["kind"] != "TrainingRuntime" for each in containers(thing)]
    assert len(found) > 8
    for container in found:
        assert "memory" in container["resources"]["limits"], container["name"]
        named = [each["name"] for each in container.get("env", ()) if each.get("value")]
        assert not [name for name in named if "PASSWORD" in name or "KEY" in name or "AUTH" in name]


def test_compose_file_is_what_the_specification_says():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, INFRA / "docker/compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_dockerfile_breaks_no_rule_of_hadolint():
    command = [Path(sys.executable).with_name("hadolint"), INFRA / "docker/Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout


def test_every_variable_that_compose_asks_for_is_in_the_example_of_secrets():
    asked = {part.split(":?")[0] for part in (INFRA / "docker/compose.yaml").read_text().split("${")[1:]}
    given = {line.split("=")[0] for line in (INFRA / "docker/secrets.example").read_text().splitlines() if "=" in line}
    assert asked == given


def test_every_image_that_is_used_is_a_target_of_the_dockerfile():
    built = {line.split()[-1] for line in (INFRA / "docker/Dockerfile").read_text().splitlines() if line[:5] == "FROM "}
    compose = yaml.safe_load((INFRA / "docker/compose.yaml").read_text(encoding="utf-8"))
    used = {service["image"] for service in compose["services"].values()}
    used |= {container["image"] for thing in EVERY for container in containers(thing)}
    own = {image.removeprefix("qaconv/").split(":")[0] for image in used if image.startswith("qaconv/")}
    assert own and own <= built


@pytest.mark.parametrize("script", sorted((INFRA / "docker").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_the_shell_s(script):
    subprocess.run(["sh", "-n", script], check=True)
    assert script.stat().st_mode & 0o111
