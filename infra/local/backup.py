"""Running servers go in; a folder comes out that holds all they know. Or the other way round, on a machine without any.

In the folder: `env`, a dump of each database, and `s3/<bucket>/<key>`. The git repository is not in it.
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
    """Writes the folder, for its owner alone. Databases come first: whatever file they name is then among the objects.

    Raises:
        InputError: the folder exists, or a server does not answer.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists; legal is a folder that does not, which the backup makes")
    with replacing_folder(folder) as beside:
        beside.chmod(0o700)
        shutil.copy(ENV, beside / "env")
        for database in DATABASES:
            _run_postgres(environment, "pg_dump", "--format=custom", f"--file={beside / database}.dump", database)
        client = s3_client(environment)
        for bucket in BUCKETS:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for each in page.get("Contents", ()):
                    path = _place(beside / "s3" / bucket, each["Key"])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    client.download_file(bucket, each["Key"], str(path))
    log.info("%s: holds secrets; keep it as you keep %s", folder, ENV)


def _place(root: Path, key: str) -> Path:
    """Where an object goes; whoever may write to a bucket may choose its keys."""
    path = root / key
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"s3://{root.name}/{key}: leads out of the backup; remove that object, or give it another key")
    return path


def restore_secrets(folder: Path) -> None:
    """The first step: .local/env as it was, so that passwords fit; one that is there stays, with its ports.

    Raises:
        InputError: there are databases already, or the folder is no backup.
    """
    if (LOCAL / "postgres").exists():
        raise InputError(f"{LOCAL}: holds databases; a backup is restored where nothing is: move it away first")
    if not (folder / "env").is_file():
        raise InputError(f"{folder}: holds no backup; `make backup` writes one")
    if not ENV.exists():
        LOCAL.mkdir(mode=0o711, exist_ok=True)
        with replacing_file(ENV) as beside:
            shutil.copyfile(folder / "env", beside)
            beside.chmod(0o600)


def fill_stores(environment: Environment, folder: Path) -> None:
    """The second, when the stores answer and are empty: databases and objects."""
    for database, (owner, _) in DATABASES.items():
        dumped = str(folder / f"{database}.dump")
        _run_postgres(
            environment,
            "pg_restore",
            "--exit-on-error",
            "--no-owner",
            f"--role={owner}",
            f"--dbname={database}",
            dumped,
        )
    client = s3_client(environment)
    for bucket in BUCKETS:
        root = folder / "s3" / bucket
        for path in sorted(root.rglob("*")):
            if path.is_file():
                client.upload_file(str(path), bucket, path.relative_to(root).as_posix())


def _run_postgres(environment: Environment, command: str, *arguments: str) -> None:
    door = ["--host=127.0.0.1", f"--port={environment['POSTGRES_PORT']}", "--username=postgres"]
    done = subprocess.run(
        [str(postgres_commands() / command), *door, *arguments],
        env={**os.environ, "PGPASSWORD": environment["POSTGRES_PASSWORD"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"{command} ended with {done.returncode}: {done.stderr.strip()}")
