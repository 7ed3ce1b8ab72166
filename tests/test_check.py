"""`qaconv check` finds what commands would fail on, one line each, and gives up what hangs."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qaconv import check, cli
from qaconv.check import Check, Running
from qaconv.config import Params, load_params
from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.paths import MODELS
from tests.imports import PROJECT

NOBODY = 65534


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Change into a folder with the project's settings and nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    return load_params()


@pytest.fixture
def not_root() -> Iterator[Callable[[], None]]:
    """Return a function that gives up root's right to read and write everything, until the test ends.

    `os.access` asks for the real user, so that one is changed, and the saved one leads back.
    """
    user = os.getuid()
    yield lambda: os.setresuid(NOBODY, NOBODY, user) if user == 0 else None
    os.setresuid(user, user, user)


def message_of(call: Callable[[], str]) -> str:
    passed, text = Running(Check("it", call)).result()
    assert not passed
    return text


def test_check_that_hangs_is_given_up_after_its_time() -> None:
    started = time.monotonic()
    hanging = Running(Check("it", lambda: str(threading.Event().wait(5)), seconds=0.1))
    assert hanging.result() == (False, "no result within 0.1 s")
    assert time.monotonic() - started < 2


def test_checks_run_side_by_side(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = get_context("fork").Barrier(2)  # which neither passes before the other has come
    both = [Check(name, lambda: str(barrier.wait(20) >= 0)) for name in ("one", "other")]
    monkeypatch.setattr(check, "_checks", lambda: iter(both))
    assert check.check_all()


def test_check_whose_process_is_killed_is_wrong() -> None:
    def kill_itself() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "not reached"

    killed = Running(Check("it", kill_itself))
    assert killed.result() == (False, "its process ended without a result")


def test_error_of_a_check_is_its_text_and_a_fault_of_the_code_has_its_type() -> None:
    assert Running(Check("it", lambda: "all is well")).result() == (True, "all is well")
    assert Running(Check("it", lambda: dict[str, str]()["x"])).result() == (False, "KeyError: 'x'")


def test_missing_and_unreadable_folders_are_named_with_their_key(
    project: Params, tmp_path: Path, not_root: Callable[[], None]
) -> None:
    mall = project.dataset("mall")
    assert check._check_dataset(project, "mall", mall) == "`dvc repro` renders it"
    shop = mall.model_copy(update={"path": tmp_path / "shop"})
    with pytest.raises(InputError, match="shop: does not exist; correct datasets.shop.path in params.yaml"):
        check._check_dataset(project, "shop", shop)
    (tmp_path / "shop/query").mkdir(parents=True)
    assert "`dvc repro prepare` prepares it" in check._check_dataset(project, "shop", shop)
    (tmp_path / "shop/query").chmod(0)
    tmp_path.chmod(0o755)
    not_root()
    shop = shop.model_copy(update={"path": Path("shop")})
    with pytest.raises(InputError, match="shop/query: this user must be able to read it"):
        check._check_dataset(project, "shop", shop)


def test_folder_that_cannot_be_written_to_is_named(project: Params, not_root: Callable[[], None]) -> None:
    Path("artifacts").mkdir()
    assert "GB free" in check._check_disk()
    Path("artifacts").chmod(0o555)
    Path().chmod(0o777)
    not_root()
    with pytest.raises(InputError, match="^artifacts: this user must be able to write into it"):
        check._check_disk()


def test_disk_with_less_space_than_a_new_run_may_need_is_named(
    project: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").mkdir()
    Path("data/images").write_bytes(bytes(1000))
    usage = shutil.disk_usage(Path())._replace(free=999)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="a new run may need as much again"):
        check._check_disk()


def test_package_of_another_version_than_the_locked_one_is_named(project: Params) -> None:
    Path("requirements.lock").write_text(
        "# made by a tool\npytest==0.1 \\\n    --hash=sha256:ab\nno-such-package==1\n"
        "pyyaml==1 ; python_version < '3' \\\n"
    )
    assert "pytest: must be ==0.1, got" in message_of(check._check_packages)
    assert "pyyaml" not in message_of(check._check_packages)


def test_the_projects_own_lock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LOCK", PROJECT / "requirements.lock")
    monkeypatch.setattr(check, "_installed_version", lambda name: None)
    assert check._check_packages() == f"0 have the versions of {PROJECT / 'requirements.lock'}"


def test_image_size_that_the_backbone_cannot_take_and_missing_weights_are_named(project: Params) -> None:
    values = project.model_dump()
    values["methods"]["baseline"]["backbone"]["weights"] = "no.pth"
    with pytest.raises(InputError, match=r"methods\.baseline: backbone\.weights: data/weights/no\.pth must be added"):
        check._check_network(Params.model_validate(values))


def test_network_that_was_trained_as_it_is_set_is_not_built_again(
    project: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaconv.models.checkpoint.build_network", lambda *_: pytest.fail("it is built"))
    for name, method in project.methods.items():
        write_json(MODELS / name / "model.json", {"trained": {"method": method.model_dump(mode="json")}})
    line = "{} takes images of 96 x 48, weights none".format
    assert check._check_network(project) == f"{line('qaconv')}; {line('baseline')}"
    values = project.model_dump()
    values["methods"]["baseline"]["image"]["height"] = 8
    with pytest.raises(pytest.fail.Exception, match="it is built"):
        check._check_network(Params.model_validate(values))


def test_stopped_server_and_wrong_params_are_lines_and_exit_status_1(
    project: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "find_spec", lambda name: name == "mlflow")
    monkeypatch.setattr(check, "_check_network", lambda params: "left out")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = CliRunner().invoke(cli.app, ["check"])
    assert result.exit_code == 1
    assert "ok    params.yaml: 4 datasets, targets campus, station, mall, street" in result.output
    assert "wrong MLflow: MLFLOW_TRACKING_URI http://127.0.0.1:9: does not answer within 5 s" in result.output
    Path("params.yaml").write_text("seed: x\n")
    result = CliRunner().invoke(cli.app, ["check"])
    assert result.exit_code == 1
    assert result.output.startswith("wrong params.yaml: params.yaml: seed")
    assert "disk: " in result.output
