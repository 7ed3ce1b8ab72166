"""Check the files for Docker and Kubernetes against published schemas; neither has run them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from kubeflow_trainer_api import models as kubeflow  # type: ignore[import-untyped]
from prefect.utilities.templating import apply_values

INFRA = Path(__file__).parents[2] / "infra"
FILES = sorted((INFRA / "k8s").rglob("*.yaml"))
KUBEFLOW = {"TrainJob": kubeflow.TrainerV1alpha1TrainJob, "TrainingRuntime": kubeflow.TrainerV1alpha1TrainingRuntime}


# Version v1 in the definition of KubeRay 1.7.0 (ray.io_rayjobs.yaml, Apache-2.0), without descriptions.
# Templates of pods are checked as pods, and other fields are refused.
RAY_JOB = json.loads((Path(__file__).parent / "schemas/rayjob_v1.json").read_text(encoding="utf-8"))
CLUSTER_WIDE = ("Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
Object = dict[str, Any]


def objects(text: str) -> list[Object]:
    """Return the objects of a file that are sent to Kubernetes."""
    return [entry for entry in yaml.safe_load_all(text) if entry and entry["kind"] != "Kustomization"]


def check(thing: Object) -> None:
    """Validate an object by the strict schema of Kubernetes 1.37, by Kubeflow's models or by KubeRay's schema."""
    if thing["kind"] in KUBEFLOW:
        model = KUBEFLOW[thing["kind"]].from_dict(thing)
        assert model.to_dict() == thing  # a field that the model does not know would be dropped
    elif thing["kind"] == "RayJob":
        jsonschema.validate(thing, RAY_JOB)
        cluster = thing["spec"]["rayClusterSpec"]
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
            kubernetes_validate.validate(pod, "1.37", strict=True)
    else:
        kubernetes_validate.validate(thing, "1.37", strict=True)


EVERY = [thing for path in FILES for thing in objects(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("thing", EVERY, ids=lambda thing: f"{thing['kind']}-{thing['metadata']['name']}")
def test_every_object_fits_its_schema(thing: Object) -> None:
    check(thing)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds kustomizations, and is not installed")
@pytest.mark.parametrize("folder", ["k8s", "k8s/galleries", "k8s/matching", "k8s/serving", "k8s/training"])
def test_kustomize_builds_objects_that_fit_their_schemas(folder: str) -> None:
    built = subprocess.run(["kubectl", "kustomize", INFRA / folder], capture_output=True, text=True, check=True).stdout
    for thing in objects(built):
        check(thing)
        assert thing["kind"] in CLUSTER_WIDE or thing["metadata"]["namespace"] == "qaconv"


def test_a_field_that_ray_jobs_do_not_have_is_noticed() -> None:
    (job,) = (thing for thing in EVERY if thing["kind"] == "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    for spec in ({**job["spec"], "rayVersion": "2"}, {**job["spec"], "rayClusterSpec": {**cluster, "workers": 4}}):
        with pytest.raises(jsonschema.ValidationError, match="Additional properties are not allowed"):
            check({**job, "spec": spec})


def test_ray_jobs_run_the_ray_that_is_installed() -> None:
    ray = pytest.importorskip("ray", reason="the extra qaconv[ray] is not installed")
    versions = {thing["spec"]["rayClusterSpec"]["rayVersion"] for thing in EVERY if thing["kind"] == "RayJob"}
    assert versions == {ray.__version__}


def test_a_kustomization_names_every_file_of_its_folder() -> None:
    for file in (INFRA / "k8s").rglob("kustomization.yaml"):
        named = {file.parent / name for name in yaml.safe_load(file.read_text(encoding="utf-8"))["resources"]}
        inner = {other.parent for other in file.parent.rglob("kustomization.yaml")} - {file.parent}
        files = {path for path in file.parent.rglob("*.yaml") if not inner & set(path.parents)}
        assert named == files - {file}


@pytest.mark.parametrize("pool", ["cpu", "gpu"])
def test_a_work_pool_s_template_makes_a_job_and_uses_every_variable(pool: str) -> None:
    template = json.loads((INFRA / f"k8s/workers/{pool}.json").read_text(encoding="utf-8"))
    variables = template["variables"]["properties"]
    set_by_prefect: Object = {"name": "stage", "command": ["prefect", "flow-run", "execute"], "env": [], "labels": {}}
    defaults = {name: variable["default"] for name, variable in variables.items() if "default" in variable}
    job: Object = apply_values(template["job_configuration"], {**defaults, **set_by_prefect})["job_manifest"]
    pod = job["spec"]["template"]["spec"]
    # Prefect rejects a template without these two in the pod's spec; Kubernetes drops them.
    assert (pod.pop("parallelism"), pod.pop("completions"), pod["containers"][0]["name"]) == (1, 1, "prefect-job")
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert all(f"{{{{ {name} }}}}" in json.dumps(template["job_configuration"]) for name in variables)
    limits = pod["containers"][0]["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == (1 if pool == "gpu" else None)


def containers(thing: Any) -> Iterator[Object]:
    """Yield the containers anywhere in an object."""
    if isinstance(thing, dict):
        for key in ("containers", "initContainers"):
            yield from thing.get(key, ())
        for value in thing.values():
            yield from containers(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from containers(value)


def test_every_container_has_a_memory_limit_and_contains_no_secret() -> None:
    all_containers = [
        container for thing in EVERY if thing["kind"] != "TrainingRuntime" for container in containers(thing)
    ]
    assert len(all_containers) > 8
    for container in all_containers:
        assert "memory" in container["resources"]["limits"], container["name"]
        named = [variable["name"] for variable in container.get("env", ()) if variable.get("value")]
        assert not [name for name in named if "PASSWORD" in name or "KEY" in name or "AUTH" in name]


def pods(thing: Any) -> Iterator[Object]:
    """Yield the pods' specs anywhere in an object."""
    if isinstance(thing, dict):
        if "containers" in thing:
            yield thing
        for value in thing.values():
            yield from pods(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from pods(value)


def test_every_pod_meets_the_restricted_standard_and_has_no_token_that_it_does_not_need() -> None:
    templates = [
        json.loads((INFRA / f"k8s/workers/{pool}.json").read_text(encoding="utf-8")) for pool in ("cpu", "gpu")
    ]
    every_pod = [pod for thing in [*EVERY, *templates] for pod in pods(thing)]
    assert len(every_pod) == 17
    for pod in every_pod:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.get("serviceAccountName") == "worker" or pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_pods_reach_only_what_a_network_policy_allows() -> None:
    policies = {thing["metadata"]["name"]: thing["spec"] for thing in EVERY if thing["kind"] == "NetworkPolicy"}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    outside = [name for name, spec in policies.items() if "ipBlock" in str(spec.get("egress"))]
    (apps,) = policies["to-outside"]["podSelector"]["matchExpressions"]
    assert outside == ["to-outside"] and not {"postgres", "s3", "mlflow", "triton"} & set(apps["values"])


def test_the_galleries_have_one_leader_whose_volume_no_other_pod_may_use() -> None:
    of_galleries = [thing for thing in EVERY if thing["metadata"]["name"] == "galleries"]
    (service,) = (thing["spec"] for thing in of_galleries if thing["kind"] == "StatefulSet")
    (volume,) = (claim["spec"] for claim in service["volumeClaimTemplates"])
    assert service["replicas"] == 1 and volume["accessModes"] == ["ReadWriteOncePod"]
    (container,) = containers(service)
    assert container["command"][:2] == ["qaconv", "serve"] and "--keys" in container["command"]
    (ingress,) = (thing["spec"] for thing in of_galleries if thing["kind"] == "Ingress")
    assert [host["hosts"] for host in ingress["tls"]] == [[rule["host"]] for rule in ingress["rules"]]


def test_followers_of_the_galleries_are_added_by_cpu_and_reach_the_leader_alone() -> None:
    named = {(thing["kind"], thing["metadata"]["name"]): thing for thing in EVERY}
    follower = named["StatefulSet", "galleries-follower"]["spec"]
    (scaler,) = (thing["spec"] for thing in EVERY if thing["kind"] == "HorizontalPodAutoscaler")
    assert scaler["scaleTargetRef"]["name"] == "galleries-follower"
    assert follower["replicas"] == scaler["minReplicas"] > 1
    # A copy of a machine that is removed would hold people who are deleted later.
    assert set(follower["persistentVolumeClaimRetentionPolicy"].values()) == {"Delete"}
    (container,) = containers(follower)
    address = container["command"][container["command"].index("--follow") + 1]
    leader = named["Service", "galleries-leader"]["spec"]
    assert address == f"http://galleries-leader:{leader['ports'][0]['port']}"
    pods_of = {name: named["StatefulSet", name]["spec"]["template"]["metadata"]["labels"] for name in (
        "galleries", "galleries-follower",
    )}  # fmt: skip
    assert leader["selector"].items() <= pods_of["galleries"].items()
    assert not leader["selector"].items() <= pods_of["galleries-follower"].items()
    any_machine = named["Service", "galleries"]["spec"]["selector"].items()
    assert all(any_machine <= labels.items() for labels in pods_of.values())
    policies = {thing["metadata"]["name"]: thing["spec"] for thing in EVERY if thing["kind"] == "NetworkPolicy"}
    leaders, followers = ({"podSelector": {"matchLabels": {"app": name}}} for name in pods_of)
    assert [rule["from"] for rule in policies["galleries-leader"]["ingress"]] == [[followers]]
    assert [rule["to"] for rule in policies["galleries-follower"]["egress"]] == [[leaders]]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"  # refuses while the copy is too old


def test_the_compose_file_fits_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    file = str(INFRA / "docker/compose.yaml")
    process = subprocess.run([*command, file], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout


def test_the_dockerfile_breaks_no_rule_of_hadolint() -> None:
    command = [Path(sys.executable).with_name("hadolint"), INFRA / "docker/Dockerfile"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0 and not process.stdout, process.stdout


def test_every_variable_that_compose_requires_is_in_the_example_of_secrets() -> None:
    required = {part.split(":?")[0] for part in (INFRA / "docker/compose.yaml").read_text().split("${")[1:]}
    given = {line.split("=")[0] for line in (INFRA / "docker/secrets.example").read_text().splitlines() if "=" in line}
    assert required == given


def test_every_image_that_is_used_is_a_target_of_the_dockerfile() -> None:
    built = {line.split()[-1] for line in (INFRA / "docker/Dockerfile").read_text().splitlines() if line[:5] == "FROM "}
    compose = yaml.safe_load((INFRA / "docker/compose.yaml").read_text(encoding="utf-8"))
    used = {service["image"] for service in compose["services"].values()}
    used |= {container["image"] for thing in EVERY for container in containers(thing)}
    targets = {image.removeprefix("qaconv/").split(":")[0] for image in used if image.startswith("qaconv/")}
    assert targets and targets <= built


@pytest.mark.parametrize("script", sorted(INFRA.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid_for_sh_and_executable(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)
    assert script.stat().st_mode & 0o111
