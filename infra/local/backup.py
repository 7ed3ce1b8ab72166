"""Back up the content of the running servers into a folder, and restore it on a machine without any.

The folder holds `env`, a dump of each database, and `s3/<bucket>/<key>`. The git repository is not in it.
"""

import logging
import os
import shutil
import subprocess
from pathlib import Path

from infra.local.environment import ENV, LOCAL, Environment
from infra.local.servers import BUCKETS, DATABASES, s3_client
from infra.local.supervisor import postgres_commands
from qaconv.errors import InputError
from qaconv.files import replacing_file, replacing_folder

log = logging.getLogger(__name__)


def dump(environment: Environment, folder: Path) -> None:
    """Write a backup that only its owner can read.

    Databases are dumped before objects are copied, so every file that a database names is in the backup.

    Args:
        environment: variables of the servers.
        folder: path of a new folder.

    Raises:
        InputError: the folder exists, or a server does not answer.
    """
    if folder.exists():
        raise InputError(f"{folder}: must not exist; the backup creates it")
    with replacing_folder(folder) as unfinished:
        unfinished.chmod(0o700)
        shutil.copy(ENV, unfinished / "env")
        for database in DATABASES:
            path = unfinished / f"{database}.dump"
            _run_postgres(environment, "pg_dump", "--format=custom", f"--file={path}", database)
        client = s3_client(environment)
        for bucket in BUCKETS:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", ()):
                    path = _object_path(unfinished / "s3" / bucket, entry["Key"])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    client.download_file(bucket, entry["Key"], str(path))
    log.info("%s: contains secrets; protect it like %s", folder, ENV)


def _object_path(root: Path, key: str) -> Path:
    """Return the path of an object below its bucket's folder; everyone who may write to the bucket can choose a key."""
    path = root / key
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"s3://{root.name}/{key}: leads out of the backup; delete that object or change its key")
    return path


def restore_secrets(folder: Path) -> None:
    """Copy a backup's `env` to .local/env, so that passwords fit; an existing file stays, with its ports.

    Raises:
        InputError: there are databases already, or the folder holds no backup.
    """
    if (LOCAL / "postgres").exists():
        raise InputError(f"{LOCAL}: must hold no databases when a backup is restored; move it away first")
    if not (folder / "env").is_file():
        raise InputError(f"{folder}: holds no backup; `make backup` writes one")
    if not ENV.exists():
        LOCAL.mkdir(mode=0o711, exist_ok=True)
        with replacing_file(ENV) as unfinished:
            shutil.copyfile(folder / "env", unfinished)
            unfinished.chmod(0o600)


def fill_stores(environment: Environment, folder: Path) -> None:
    """Restore databases and objects, after the stores answer and while they are empty."""
    for database, (owner, _) in DATABASES.items():
        _run_postgres(
            environment,
            "pg_restore",
            "--exit-on-error",
            "--no-owner",
            f"--role={owner}",
            f"--dbname={database}",
            str(folder / f"{database}.dump"),
        )
    client = s3_client(environment)
    for bucket in BUCKETS:
        root = folder / "s3" / bucket
        for path in sorted(root.rglob("*")):
            if path.is_file():
                client.upload_file(str(path), bucket, path.relative_to(root).as_posix())


def _run_postgres(environment: Environment, command: str, *arguments: str) -> None:
    connection = ["--host=127.0.0.1", f"--port={environment['POSTGRES_PORT']}", "--username=postgres"]
    process = subprocess.run(
        [str(postgres_commands() / command), *connection, *arguments],
        env={**os.environ, "PGPASSWORD": environment["POSTGRES_PASSWORD"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise InputError(f"{command} ended with {process.returncode}: {process.stderr.strip()}")
