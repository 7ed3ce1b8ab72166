"""Pin the images of the manifests to digests, so that a cluster runs the images that were looked up and no others.

    python infra/k8s/pin_images.py public                                   # before the build: images of others
    python infra/k8s/pin_images.py built registry.example.org/team 3f2a9c1  # after the push: ours, by registry and tag

A reference becomes NAME:TAG@sha256:DIGEST. The digests are looked up with skopeo (`apt-get install skopeo`), which
reads the credentials of `skopeo login` or `docker login`.
"""

import re
import subprocess
from pathlib import Path
from typing import Annotated

import typer

K8S = Path(__file__).parent
DOCKERFILE = K8S.parent / "docker/Dockerfile"
BUILT = ("qaconv/postgres", "qaconv/servers", "qaconv/worker-cpu", "qaconv/worker-gpu")  # the Dockerfile's targets

# An image after a key of a manifest, a default of a job template, or FROM; a name without / or : is a stage.
REFERENCE = re.compile(
    r'(?P<key>^FROM |image: |"default": ")(?P<name>[\w.-]+(?::\d+(?=/))?(?:/[\w.-]+)*)(?::(?P<tag>[\w.-]+))?'
    r"(?P<digest>@sha256:[0-9a-f]{64})?(?=[\s\"]|$)",
    re.MULTILINE,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def public() -> None:
    """Pin the images of other publishers, which the files name by tag. Run it again to take up a tag's newer image."""
    named = {reference for file in _files() for reference in _public(file.read_text(encoding="utf-8"))}
    _write({reference: reference for reference in sorted(named)})


@app.command()
def built(
    registry: Annotated[str, typer.Argument(help="Registry and folder that the images were pushed to.")],
    tag: Annotated[str, typer.Argument(help="Tag that they were pushed with, such as the commit.")],
) -> None:
    """Pin the images that are built from infra/docker/Dockerfile."""
    _write({name: f"{registry.rstrip('/')}/{name}:{tag}" for name in BUILT})


def _write(references: dict[str, str]) -> None:
    """Replace images by references with digests in all files, or in none if one cannot be looked up.

    Args:
        references: reference with a tag of each image, by how the files name it: NAME:TAG, or qaconv/NAME for ours.
    """
    pinned = {image: f"{reference}@{_look_up(reference)}" for image, reference in references.items()}
    for image in pinned.values():
        typer.echo(image)
    for file in _files():
        text = file.read_text(encoding="utf-8")
        changed = REFERENCE.sub(
            lambda match: match["key"] + pinned.get(_image(match), match[0][len(match["key"]) :]), text
        )
        if changed != text:
            new_file = file.with_suffix(".new")
            new_file.write_text(changed, encoding="utf-8")
            new_file.chmod(file.stat().st_mode)
            new_file.replace(file)


def _image(match: re.Match[str]) -> str:
    """Return qaconv/NAME for an image of ours, in any registry and by any tag, and NAME:TAG for another."""
    ours = "/".join(match["name"].split("/")[-2:])
    return ours if ours in BUILT else f"{match['name']}:{match['tag']}"


def _public(text: str) -> list[str]:
    images = (_image(match) for match in REFERENCE.finditer(text) if match["tag"])
    return [image for image in images if image not in BUILT]


def _files() -> list[Path]:
    return [DOCKERFILE, *sorted(K8S.rglob("*.yaml")), *sorted(K8S.rglob("*.json"))]


def _look_up(reference: str) -> str:
    command = ["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{reference}"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit("skopeo is not installed: `apt-get install skopeo`, or another system's package") from None
    digest = process.stdout.strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise SystemExit(f"{reference}: its digest cannot be looked up, no file has changed: {process.stderr.strip()}")
    return digest


if __name__ == "__main__":
    app()
