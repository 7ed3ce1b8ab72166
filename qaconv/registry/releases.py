"""Find registered versions, and load their evidence and what they are served with.

Three registered models belong together: `<name>-encoder` and `<name>-matcher` are the ONNX graphs, and `<name>` serves
both. Its version names those of the graphs and holds the contract and the temporal profiles, so that encoder, matcher,
contract and profiles are found together or not at all.

A version may be of one site: its network was adapted to that target, and it has an alias champion of its own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from qaconv.errors import InputError
from qaconv.registry.locking import is_missing
from qaconv.registry.packaging import EVIDENCE, SERVED
from qaconv.release.evidence import Evidence
from qaconv.release.site_evidence import SiteEvidence
from qaconv.runtime.model import ServedModel
from qaconv.tlift import TLiftProfile

GRAPHS = ("encoder", "matcher")
GRAPH_TAGS = tuple(f"{graph}_version" for graph in GRAPHS)
SITE = "site"  # tag: the target that a version's network was adapted to
WEIGHTS = "weights"  # tag: digest of the exported network, which its temporal profiles name
BEGAN_WITH = "began_with"  # tag: digest of the file of weights that its training began with, if there was one
WEIGHTS_LICENCE = "weights_licence"  # tag: licence of the weights that its training began with, if there were any


@dataclass(frozen=True)
class Release:
    """A version of the model and of its two graphs.

    Attributes:
        name: name of the registered model.
        version: version of the model.
        graphs: version of each graph, by its registered name.
        run_id: the MLflow run that registered it.
        site: the target that its network was adapted to. None: it serves all targets.
    """

    name: str
    version: str
    graphs: Mapping[str, str]
    run_id: str | None
    site: str | None = None

    @classmethod
    def of_version(cls, version: ModelVersion) -> "Release":
        """Read a version of the model and its tags.

        Raises:
            InputError: another tool has registered it.
        """
        if not is_release(version):
            raise InputError(
                f"{version.name} version {version.version}: has no tags {' and '.join(GRAPH_TAGS)}, so another tool "
                "has registered it; set its alias on a version that this project has registered"
            )
        graphs = {f"{version.name}-{graph}": version.tags[f"{graph}_version"] for graph in GRAPHS}
        return cls(version.name, str(version.version), graphs, version.run_id, version.tags.get(SITE))

    @property
    def models(self) -> dict[str, str]:
        """Version of each registered model, the one that names the pair last."""
        return {**self.graphs, self.name: self.version}

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def is_release(version: ModelVersion) -> bool:
    """Return whether this project has registered a version."""
    return version.tags.keys() >= set(GRAPH_TAGS)


def find_release(name: str, version: str) -> Release | None:
    """Find a release by a version's number or alias; None where there is none.

    Raises:
        InputError: another tool has registered the version.
    """
    client = MlflowClient()
    try:
        number = version if version.isdigit() else client.get_registered_model(name).aliases.get(version)
        return None if number is None else Release.of_version(client.get_model_version(name, number))
    except mlflow.MlflowException as error:
        if is_missing(error):
            return None
        raise


def alias_of(role: str, site: str | None) -> str:
    """Return the alias of the champion, the version before it or the challenger, such as champion or champion-station.

    MLflow allows letters, digits, - and _ in an alias, which are those of a target's name.
    """
    return role if site is None else f"{role}-{site}"


def find_holder(name: str, role: str, site: str | None) -> Release | None:
    """Find the release with the alias of a role; None where no version has it.

    Raises:
        InputError: another tool has registered the version, or it is of another site.
    """
    release = find_release(name, alias_of(role, site))
    if release and release.site != site:
        kind = f"of the site {release.site}" if release.site else "for all targets"
        wanted = f"of {site}" if site else "for all targets"
        raise InputError(
            f"{release}: has the alias {alias_of(role, site)}, but is {kind}; set the alias on a version {wanted}, on "
            "its page in MLflow, or remove it"
        )
    return release


def is_registered(name: str) -> bool:
    """Return whether there is a registered model of that name."""
    return len(MlflowClient().search_registered_models(f"name = '{name}'")) > 0


def find_champion(name: str, site: str | None = None) -> Release:
    """Find the release that answers: of a site its own champion if it has one, else the champion for all targets.

    Args:
        name: name of the registered model.
        site: the target to answer for. Default: all.

    Raises:
        InputError: no version has the alias, it is on a version of another site, or the registry cannot be read.
    """
    try:
        champion = (find_holder(name, "champion", site) if site else None) or find_holder(name, "champion", None)
    except mlflow.MlflowException as error:
        raise InputError(f"{name}: the registry cannot be read: {error.message}") from error
    if champion is None:
        raise InputError(
            f"{name}: no version has the alias champion; `make demo` registers one, or set it on MLflow's page"
        )
    return champion


def started_s(release: Release) -> float:
    """Return when the retraining of a release began, in seconds since 1970; later data is new to it.

    Raises:
        InputError: its MLflow run no longer exists.
    """
    return float(find_run(release).info.start_time) / 1000


def find_run(release: Release) -> Run:
    """Return the MLflow run that registered a release.

    Raises:
        InputError: it no longer exists.
    """
    try:
        return MlflowClient().get_run(release.run_id or "")
    except mlflow.MlflowException as error:
        if not is_missing(error):
            raise
        raise InputError(f"{release}: its run {release.run_id} was deleted from MLflow for good; retrain") from error


def load_evidence(release: Release) -> Evidence | SiteEvidence | None:
    """Load the evidence for a release; None for a version that was registered without.

    Raises:
        InputError: the version's files are gone or damaged.
    """
    check_files(release)
    uri = f"models:/{release.name}/{release.version}"
    files = list_artifacts(artifact_uri=f"{uri}/{Path(EVIDENCE).parent}") or ()
    if Path(EVIDENCE).name not in [Path(file.path).name for file in files]:
        return None
    with TemporaryDirectory() as folder:
        path = Path(download_artifacts(f"{uri}/{EVIDENCE}", dst_path=folder))
        try:
            return SiteEvidence.load(path) if release.site else Evidence.load(path)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{release}: {EVIDENCE} must be a version's evidence: {error}") from error


def check_files(release: Release) -> None:
    """Check that a release has files.

    Raises:
        InputError: it has none.
    """
    if not list_artifacts(artifact_uri=f"models:/{release.name}/{release.version}"):
        place = MlflowClient().get_model_version_download_uri(release.name, release.version)
        raise InputError(
            f"{release}: its files are gone from {place}; restore them, or delete the version on MLflow's page"
        )


def download_served(release: Release, folder: Path) -> None:
    """Copy a release's graphs, contract and profiles into an empty folder.

    Raises:
        InputError: the release has no files.
    """
    check_files(release)
    downloaded = download_artifacts(f"models:/{release.name}/{release.version}/{SERVED}")
    shutil.copytree(downloaded, folder, dirs_exist_ok=True)


def load_served(release: Release) -> tuple[ServedModel, Mapping[str, TLiftProfile]]:
    """Load the model that a release is served by, and its temporal profiles by target.

    Raises:
        InputError: a file is missing or damaged.
    """
    with TemporaryDirectory() as folder:
        download_served(release, Path(folder))
        try:
            model = ServedModel(Path(folder))
            return model, model.profiles
        except InputError as error:
            raise InputError(f"{release}: {error}") from error


def aliases(release: Release) -> list[str]:
    """Return the aliases that point to a release now."""
    return sorted(MlflowClient().get_model_version(release.name, release.version).aliases)
