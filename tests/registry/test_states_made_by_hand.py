"""Whatever someone does on MLflow's page: a promotion and a rollback give a right answer, or say what to do."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.registry import Release, find_champion, find_release, started_s
from qaconv.registry.promotion import promote, rollback
from qaconv.registry.relocation import relocate
from qaconv.registry.runs import ARTIFACTS, STORE, connect
from tests.tracked_projects import MODELS

Change = Callable[[], object]


def delete_versions(*versions: str, model: str = "qaconv") -> None:
    for version in versions:
        MlflowClient().delete_model_version(model, version)


def set_alias(alias: str, version: str) -> None:
    MlflowClient().set_registered_model_alias("qaconv", alias, version)


def register_by_another_tool() -> None:
    version = MlflowClient().create_model_version("qaconv", "s3://elsewhere/model")
    set_alias("champion", str(version.version))


def files_of(version: str) -> Path:
    """Return the folder of a version's files, in a copy of the store's files."""
    if ARTIFACTS.is_symlink():
        files = ARTIFACTS.resolve()
        ARTIFACTS.unlink()
        shutil.copytree(files, ARTIFACTS)
        relocate(STORE, ARTIFACTS)
    uri = MlflowClient().get_model_version_download_uri("qaconv", version)
    return ARTIFACTS / uri.partition("mlartifacts/")[2]


def delete_files(version: str) -> None:
    shutil.rmtree(files_of(version))


def cut(version: str, name: str) -> None:
    path = files_of(version) / "artifacts" / name
    path.write_bytes(path.read_bytes()[:-20])


def delete_run(version: str, restore: bool = False) -> None:
    run = MlflowClient().get_model_version("qaconv", version).run_id
    assert run is not None
    MlflowClient().delete_run(run)
    if restore:
        MlflowClient().restore_run(run)


def delete_experiment() -> None:
    experiment = MlflowClient().get_experiment_by_name("qaconv")
    assert experiment is not None
    MlflowClient().delete_experiment(experiment.experiment_id)


def delete_model(name: str) -> None:
    MlflowClient().delete_registered_model(name)


def mark_rolled_back(version: str) -> None:
    MlflowClient().set_model_version_tag("qaconv", version, "rolled_back", "an old reason")


ALIAS_GONE = "no version has the alias champion, though qaconv version {} had it"
NO_ALIAS = "no version has the alias champion"
FOREIGN = "version 6: has no tags encoder_version and matcher_version, so another tool has registered it"
# What someone does; the champion after a promotion of version 4, and after a rollback of the champion. Else a message.
STATES: dict[str, tuple[Change, str, str]] = {
    "nothing": (lambda: None, "4", "2"),
    "deletes the version before": (partial(delete_versions, "2"), "4", "1"),
    "deletes all versions before": (partial(delete_versions, "1", "2"), "4", "no earlier champion exists"),
    "deletes the champion": (partial(delete_versions, "3"), ALIAS_GONE.format(2), NO_ALIAS),
    "deletes the challenger": (partial(delete_versions, "4"), "qaconv version 4: was deleted from the registry", "2"),
    "deletes the alias champion": (
        lambda: MlflowClient().delete_registered_model_alias("qaconv", "champion"),
        ALIAS_GONE.format(3),
        NO_ALIAS,
    ),
    "deletes the alias previous": (
        lambda: MlflowClient().delete_registered_model_alias("qaconv", "previous"),
        "4",
        "2",
    ),
    "moves the alias previous": (partial(set_alias, "previous", "1"), "4", "2"),
    "moves the alias previous to the champion": (partial(set_alias, "previous", "3"), "4", "2"),
    "makes an older version the champion": (partial(set_alias, "champion", "2"), "4", "1"),
    "makes a refused version the champion": (partial(set_alias, "champion", "5"), "4", "3"),
    "makes a version champion that was rolled back": (partial(mark_rolled_back, "3"), "4", "2"),
    "marks the version before": (partial(mark_rolled_back, "2"), "4", "1"),
    "deletes the champion's encoder": (partial(delete_versions, "3", model="qaconv-encoder"), "4", "2"),
    "deletes the challenger's encoder": (partial(delete_versions, "4", model="qaconv-encoder"), "4", "2"),
    "deletes the encoder before": (partial(delete_versions, "2", model="qaconv-encoder"), "4", "2"),
    "deletes all encoders": (partial(delete_model, "qaconv-encoder"), "4", "2"),
    "deletes the model": (partial(delete_model, "qaconv"), "qaconv version 4: was deleted", NO_ALIAS),
    "renames the model": (
        lambda: MlflowClient().rename_registered_model("qaconv", "other"),
        "qaconv version 4: was deleted",
        NO_ALIAS,
    ),
    "registers a champion by another tool": (register_by_another_tool, FOREIGN, FOREIGN),
    "deletes the champion's run": (partial(delete_run, "3"), "4", "2"),
    "deletes and restores a run": (partial(delete_run, "3", restore=True), "4", "2"),
    "deletes the run before": (partial(delete_run, "2"), "4", "2"),
    "deletes the experiment": (delete_experiment, "4", "2"),
    "deletes the champion's files": (partial(delete_files, "3"), "qaconv version 3: its files are gone", "2"),
    "deletes the challenger's files": (partial(delete_files, "4"), "qaconv version 4: its files are gone", "2"),
    "deletes the files before": (partial(delete_files, "2"), "4", "qaconv version 2: its files are gone"),
    "cuts the champion's evidence": (
        partial(cut, "3", "evidence.json"),
        "version 3: artifacts/evidence.json must",
        "2",
    ),
    "cuts the challenger's encoder": (
        partial(cut, "4", "served/encoder.onnx"),
        "version 4: .*must have the sha256",
        "2",
    ),
    "cuts a profile before": (partial(cut, "2", "served/tlift/mall.json"), "4", "version 2: .*must have the sha256"),
    "cuts the contract before": (partial(cut, "2", "served/contract.json"), "4", "version 2: .*must be a version's"),
}


def challenger() -> Release:
    release = find_release("qaconv", "4")
    assert release is not None
    return release


def check_aliases(champion: str) -> None:
    """Check that every graph that exists follows the champion, and that no alias is left on another version."""
    release = find_champion("qaconv")
    assert release.version == champion
    expected = {name: version if find_version(name, version) else "None" for name, version in release.models.items()}
    client = MlflowClient()
    names = [model.name for model in client.search_registered_models() if model.name in MODELS]
    assert {name: str(client.get_registered_model(name).aliases.get("champion")) for name in names} == {
        name: expected[name] for name in names
    }


def find_version(name: str, version: str) -> bool:
    return bool(MlflowClient().search_model_versions(f"name = '{name}' and version_number = {version}"))


def marked() -> set[str]:
    versions = MlflowClient().search_model_versions("name = 'qaconv'")
    return {str(version.version) for version in versions if "rolled_back" in version.tags}


@pytest.mark.parametrize("state", STATES)
def test_a_promotion_after_someone(registry: tuple[Path, Params], state: str) -> None:
    release = challenger()
    change, expected, _ = STATES[state]
    change()
    if expected == "4":
        assert promote(release, registry[1].gate).promoted
        check_aliases("4")
    else:
        before = aliases()
        with pytest.raises(InputError, match=expected):
            promote(release, registry[1].gate)
        assert aliases() == before


@pytest.mark.parametrize("state", STATES)
def test_a_rollback_after_someone(registry: tuple[Path, Params], state: str) -> None:
    change, _, expected = STATES[state]
    change()
    champion = aliases() or "3"
    if expected.isdigit():
        left, back = rollback("qaconv", champion, "it confuses twins")
        assert (left.version, back.version) == (champion, expected)
        check_aliases(expected)
        assert champion in marked() and expected not in marked()
        with pytest.raises(InputError, match=f"version {champion} is not the champion, version {expected} is"):
            rollback("qaconv", champion, "said twice")
    else:
        with pytest.raises(InputError, match=expected):
            rollback("qaconv", champion, "it confuses twins")
        assert aliases() in ("", champion)
        assert champion not in marked()


def aliases() -> str:
    """Return the champion's version, empty where there is none."""
    models = {model.name: model for model in MlflowClient().search_registered_models()}
    return str(models["qaconv"].aliases.get("champion", "")) if "qaconv" in models else ""


def test_a_run_that_is_gone_for_good_is_named(registry: tuple[Path, Params]) -> None:
    champion = find_champion("qaconv")
    assert started_s(champion) > 0
    gone = Release(champion.name, champion.version, champion.graphs, "f" * 32)
    with pytest.raises(InputError, match=f"qaconv version 3: its run {'f' * 32} was deleted from MLflow for good"):
        started_s(gone)


def test_an_old_store_of_another_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match=r"mlflow\.db: must be a store of MLflow"):
        connect()
