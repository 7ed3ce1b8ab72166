"""Pin images by their digests, looked up in a real registry, and refuse pods whose images are not pinned."""

import gzip
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.test_secrets import K8S, evaluate_policy

INFRA = K8S.parent
BUILT = ("postgres", "servers", "worker-cpu", "worker-gpu")
needs_registry = pytest.mark.skipif(
    not shutil.which("skopeo") or not shutil.which("docker-registry"), reason="skopeo and docker-registry are Debian's"
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a registry that stands for docker.io and nvcr.io too; return its address."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}}
    config = {"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": {"addr": address}}
    (folder / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    mirrors = "".join(
        f'[[registry]]\nprefix = "{prefix}"\nlocation = "{address}{path}"\ninsecure = true\n'
        for prefix, path in ((address, ""), ("docker.io/library", "/docker.io"), ("nvcr.io", "/nvcr.io"))
    )
    settings = folder / ".config/containers"
    settings.mkdir(parents=True)
    (settings / "registries.conf").write_text(mirrors, encoding="utf-8")
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))  # of skopeo's settings
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", int(address.split(":")[1]))):
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)
        yield address
    server.terminate()
    server.wait(timeout=30)


def push(image: str, content: str, folder: Path) -> str:
    """Push an image of one file to the registry, and return the digest of its manifest."""
    layer = io.BytesIO()
    with gzip.GzipFile(fileobj=layer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("name")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content.encode()))
    folder.mkdir()
    plain = gzip.decompress(layer.getvalue())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(plain).hexdigest()}"]},
    }
    blobs = {"layer": layer.getvalue(), "config": json.dumps(config).encode()}
    for blob in blobs.values():
        (folder / sha256(blob).hexdigest()).write_bytes(blob)
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": described(f"{kind}.config.v1+json", blobs["config"]),
        "layers": [described(f"{kind}.layer.v1.tar+gzip", blobs["layer"])],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "version").write_text("Directory Transport Version: 1.1\n", encoding="utf-8")
    copy = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"dir:{folder}", f"docker://{image}"]
    subprocess.run(copy, check=True, capture_output=True)
    return f"sha256:{sha256((folder / 'manifest.json').read_bytes()).hexdigest()}"


def described(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256(blob).hexdigest()}", "size": len(blob)}


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """Copy the files that name images."""
    for name in ("k8s", "docker"):
        shutil.copytree(INFRA / name, tmp_path / "infra" / name)
    return tmp_path / "infra"


def pin(infra: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(infra / "k8s/pin_images.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)


def images(infra: Path) -> set[str]:
    """Return every image that a manifest or a job template names."""
    texts = [
        path.read_text(encoding="utf-8") for path in [*infra.rglob("k8s/**/*.yaml"), *infra.rglob("k8s/**/*.json")]
    ]
    found = {
        image for text in texts for image in re.findall(r'image: ([^\s{"]+)|"default": "([^"]*qaconv/[^"]*)"', text)
    }
    return {first or second for first, second in found}


@needs_registry
def test_every_image_gets_the_digest_that_the_registry_has_for_it(registry: str, infra: Path, tmp_path: Path) -> None:
    digests = {name: push(f"{registry}/team/qaconv/{name}:3f2a9c1", name, tmp_path / name) for name in BUILT}
    process = pin(infra, "built", f"{registry}/team", "3f2a9c1")
    assert process.returncode == 0, process.stderr
    ours = {f"{registry}/team/qaconv/{name}:3f2a9c1@{digest}" for name, digest in digests.items()}
    assert set(process.stdout.split()) == ours
    triton = push(f"{registry}/nvcr.io/nvidia/tritonserver:25.08-py3", "triton", tmp_path / "triton")
    postgres = push(f"{registry}/docker.io/postgres:17", "base", tmp_path / "base")
    python = push(f"{registry}/docker.io/python:3.11-slim", "python", tmp_path / "python")
    process = pin(infra, "public")
    assert process.returncode == 0, process.stderr
    assert images(infra) == ours | {f"nvcr.io/nvidia/tritonserver:25.08-py3@{triton}"}
    dockerfile = (infra / "docker/Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+:\S+)", dockerfile, re.MULTILINE) == [
        f"postgres:17@{postgres}",
        f"python:3.11-slim@{python}",
    ]


@needs_registry
def test_a_pinned_image_is_pinned_again_to_a_newer_build(registry: str, infra: Path, tmp_path: Path) -> None:
    for build in ("one", "two"):
        for name in BUILT:
            digest = push(f"{registry}/qaconv/{name}:{build}", f"{name} {build}", tmp_path / f"{name}-{build}")
        assert pin(infra, "built", registry, build).returncode == 0
    assert f"{registry}/qaconv/worker-gpu:two@{digest}" in images(infra)
    assert not any(":one@" in image for image in images(infra))


@needs_registry
def test_an_image_that_is_not_in_the_registry_changes_no_file(registry: str, infra: Path, tmp_path: Path) -> None:
    for name in BUILT[:-1]:
        push(f"{registry}/part/qaconv/{name}:1", name, tmp_path / name)
    before = images(infra)
    process = pin(infra, "built", f"{registry}/part", "1")
    assert process.returncode == 1
    assert f"{registry}/part/qaconv/worker-gpu:1: its digest cannot be looked up, no file has changed" in process.stderr
    assert "Traceback" not in process.stderr and images(infra) == before


PINNED = f"registry.example.org/qaconv/servers:1@sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("spec", "admitted"),
    [
        ({"containers": [{"image": PINNED}]}, True),
        ({"containers": [{"image": PINNED}], "initContainers": [{"image": PINNED}]}, True),
        ({"containers": [{"image": "qaconv/servers"}]}, False),
        ({"containers": [{"image": PINNED}, {"image": "qaconv/servers:3f2a9c1"}]}, False),
        ({"containers": [{"image": PINNED[:-1]}]}, False),
        ({"containers": [{"image": PINNED}], "initContainers": [{"image": "busybox"}]}, False),
        ({"containers": [{"image": PINNED}], "ephemeralContainers": [{"image": "busybox"}]}, False),
    ],
)
def test_a_pod_is_admitted_if_all_its_images_are_named_by_digest(spec: dict[str, Any], admitted: bool) -> None:
    assert evaluate_policy(K8S / "images.yaml", {"spec": spec}) == admitted
