"""Start the servers with their databases, buckets and clones, and wait until they answer."""

import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg2
from botocore.exceptions import BotoCoreError, ClientError
from psycopg2 import sql

from infra.local import scheduling
from infra.local.environment import LOCAL, PROJECT, Environment
from infra.local.supervisor import COMMANDS, WORKERS, Supervisor, postgres_commands
from qaconv.errors import InputError
from qaconv.files import replacing_file

log = logging.getLogger(__name__)

PATIENCE_S = 600  # seconds for a server's first start, which creates tables, on a busy machine
DATABASES = {  # the owner of each, and the variable of its password
    "mlflow": ("mlflow", "MLFLOW_DATABASE_PASSWORD"),
    "mlflow_auth": ("mlflow", "MLFLOW_DATABASE_PASSWORD"),
    "prefect": ("prefect", "PREFECT_DATABASE_PASSWORD"),
}
BUCKETS = ("mlflow", "dvc", "incoming", "quarantine")


def prepare(environment: Environment) -> None:
    """Create what the servers need before they start: folders, PostgreSQL's cluster, files with secrets."""
    require_root(PROJECT)
    shutil.rmtree(LOCAL / "tmp", ignore_errors=True)  # files that killed processes have left
    for folder in ("log", "s3", "prefect", "clones", "tmp"):
        (LOCAL / folder).mkdir(mode=0o700, exist_ok=True)
    if not (LOCAL / "postgres" / "PG_VERSION").exists():
        _create_cluster(environment)
    keys = {"accessKey": environment["AWS_ACCESS_KEY_ID"], "secretKey": environment["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "qaconv", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    _write_secret(LOCAL / "s3.json", json.dumps({"identities": [identity]}))
    database = f"postgresql+psycopg2://mlflow:{environment['MLFLOW_DATABASE_PASSWORD']}@127.0.0.1:{environment['POSTGRES_PORT']}"
    _write_secret(
        LOCAL / "mlflow_auth.ini",
        "[mlflow]\ndefault_permission = READ\n"
        "auth_cache_ttl_seconds = 60\n"  # logging a model sends hundreds of requests, and each hash is slow
        f"database_uri = {database}/mlflow_auth\n"
        f"admin_username = {environment['MLFLOW_TRACKING_USERNAME']}\n"
        f"admin_password = {environment['MLFLOW_TRACKING_PASSWORD']}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
    )


def require_root(project: Path) -> None:
    """Check that a folder is the root of a git repository, which workers clone and new data are pushed to.

    Raises:
        InputError: it is not.
    """
    command = ["git", "rev-parse", "--show-toplevel"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    root = Path(done.stdout.strip()) if not done.returncode else None
    if root != project.resolve():
        raise InputError(f"{project}: must be the root of a git repository, got {root or 'no repository'}")


def start_stores(environment: Environment, supervisor: Supervisor) -> None:
    """Start PostgreSQL with its databases and S3 with its buckets."""
    supervisor.start_program("postgres")
    supervisor.start_program("s3")
    _wait("postgres", lambda: _connect(environment).close(), psycopg2.OperationalError)
    _create_databases(environment)
    _wait("s3", lambda: _create_buckets(environment), BotoCoreError, ClientError)


def start_servers(environment: Environment, supervisor: Supervisor) -> None:
    """Start MLflow and Prefect, which keep their data in the stores."""
    supervisor.start_program("mlflow")
    supervisor.start_program("prefect")
    for name, path in (("mlflow", "/health"), ("prefect", "/api/ready")):
        _wait(name, partial(_check_answer, environment, environment.address(name) + path), httpx.HTTPError)


def start_workers(environment: Environment, supervisor: Supervisor) -> None:
    """Set up Prefect, and start the workers, each in its own clone."""
    scheduling.set_up(environment)
    # A commit of flows/ingest.py updates the project's working tree, unless that has uncommitted changes.
    subprocess.run(["git", "config", "receive.denyCurrentBranch", "updateInstead"], cwd=PROJECT, check=True)
    _point_dvc_to_s3(PROJECT)
    for worker in WORKERS:
        _clone(LOCAL / "clones" / worker)
        supervisor.start_program(worker)
    for worker in WORKERS:
        check = partial(scheduling.expect_worker, environment, worker, supervisor.started_s(worker))
        _wait(worker, check, LookupError)


def s3_client(environment: Environment) -> Any:
    """Return a boto3 client of these servers' S3."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )


def _create_cluster(environment: Environment) -> None:
    """Run initdb as PostgreSQL's user; the cluster is complete or absent."""
    user = environment["POSTGRES_USER"]
    folder = LOCAL / "postgres"
    unfinished = LOCAL / "postgres.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password = LOCAL / "postgres.password"
    _write_secret(password, environment["POSTGRES_PASSWORD"])
    initdb = [str(postgres_commands() / "initdb"), "-D", str(unfinished), "-U", "postgres", "--auth=scram-sha-256"]
    other = user if os.geteuid() == 0 else None  # only root can run a command as another user
    if other:
        shutil.chown(unfinished, other)
        shutil.chown(password, other)
    try:
        process = subprocess.run(
            [*initdb, "--encoding=UTF8", f"--pwfile={password}"],
            user=other,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
    finally:
        password.unlink()
    if process.returncode:
        hint = f"; user {other} must be able to enter every folder above {LOCAL}" if other else ""
        raise InputError(f"{folder}: PostgreSQL's cluster cannot be created: {process.stderr.strip()}{hint}")
    unfinished.rename(folder)


def _connect(environment: Environment) -> psycopg2.extensions.connection:
    return psycopg2.connect(
        host="127.0.0.1",
        port=environment["POSTGRES_PORT"],
        user="postgres",
        password=environment["POSTGRES_PASSWORD"],
        dbname="postgres",
        connect_timeout=5,
    )


def _create_databases(environment: Environment) -> None:
    """Create a role and a database each for MLflow, its users, and Prefect; existing ones stay."""
    connection = _connect(environment)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles")
        existing = {row[0] for row in cursor.fetchall()}
        for role, password in set(DATABASES.values()):
            if role not in existing:
                create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                cursor.execute(create.format(sql.Identifier(role), sql.Literal(environment[password])))
        for database, (owner, _) in DATABASES.items():
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
            if cursor.fetchone() is None:
                create = sql.SQL("CREATE DATABASE {} OWNER {}")
                cursor.execute(create.format(sql.Identifier(database), sql.Identifier(owner)))
    connection.close()


def _create_buckets(environment: Environment) -> None:
    client = s3_client(environment)
    existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket in BUCKETS:
        if bucket not in existing:
            client.create_bucket(Bucket=bucket)


def _check_answer(environment: Environment, url: str) -> None:
    """Raise httpx.HTTPError unless a server answers at a URL."""
    user, _, password = environment["PREFECT_API_AUTH_STRING"].partition(":")
    httpx.get(url, auth=(user, password), timeout=5).raise_for_status()


def _clone(folder: Path) -> None:
    """Clone the project for a worker, so that no other holds DVC's lock there; results are shared by the S3 remote."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(unfinished)], check=True)
    _point_dvc_to_s3(unfinished)
    unfinished.rename(folder)


def _point_dvc_to_s3(folder: Path) -> None:
    """Make S3 the default remote in `.dvc/config.local` unless there is one; it has the workers' outputs."""
    dvc = str(COMMANDS / "dvc")
    if not subprocess.run([dvc, "config", "core.remote"], cwd=folder, capture_output=True, check=False).stdout:
        for setting in (["core.remote", "s3"], ["remote.s3.url", "s3://dvc"]):
            subprocess.run([dvc, "config", "--local", *setting], cwd=folder, check=True)


def _write_secret(path: Path, text: str) -> None:
    with replacing_file(path) as unfinished:
        unfinished.touch(mode=0o600)
        unfinished.write_text(text, encoding="utf-8")


def _wait(name: str, attempt: Callable[[], None], *expected: type[Exception]) -> None:
    """Repeat an attempt until it succeeds.

    Args:
        name: name of the server, for messages.
        attempt: call that raises one of `expected` until the server answers.
        expected: exceptions that mean "not yet".

    Raises:
        InputError: the attempt has not succeeded within PATIENCE_S.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            attempt()
            log.info("%s answers", name)
            return
        except expected as error:
            if time.monotonic() > deadline:
                raise InputError(f"{name} does not answer: {error}; see {LOCAL}/log/{name}.log") from error
            time.sleep(0.5)
