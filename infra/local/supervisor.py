"""Start, watch and stop servers by supervisord, which outlives this process."""

import os
import re
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from infra.local.environment import LOCAL, PROJECT, Environment
from qaconv.errors import InputError
from qaconv.processes import child_environment

COMMANDS = Path(sys.executable).parent
CONFIG = Path(__file__).with_name("supervisord.conf")
WORKERS = ("worker-flows", "worker-cpu-1", "worker-cpu-2", "worker-gpu")
CLIENT_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING")
SECRETS = {  # that each program reads from its environment; passwords of databases are in the addresses it is given
    "postgres": (),
    "s3": tuple(
        f"WEED_JWT_{name}"
        for name in ("SIGNING_KEY", "SIGNING_READ_KEY", "FILER_SIGNING_KEY", "FILER_SIGNING_READ_KEY")
    ),
    "mlflow": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
    "prefect": ("PREFECT_API_AUTH_STRING",),
    **dict.fromkeys(WORKERS, CLIENT_SECRETS),
}
PATIENCE_S = 60  # seconds for supervisord to answer
ALREADY_STARTED = 60  # supervisor's fault code


class Supervisor:
    """Client of this project's supervisord, by XML-RPC."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        address = f"admin:{environment['SUPERVISOR_PASSWORD']}@127.0.0.1:{environment['SUPERVISOR_PORT']}"
        self._calls: Any = xmlrpc.client.ServerProxy(f"http://{address}/RPC2").supervisor

    def running(self) -> bool:
        """Return whether supervisord answers."""
        try:
            return bool(self._calls.getState()["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def start(self) -> None:
        """Start supervisord as a daemon, without any server.

        Raises:
            InputError: supervisord has not answered within PATIENCE_S.
        """
        variables = self._environment.for_processes() | {
            "LOCAL": str(LOCAL),
            "PROJECT": str(PROJECT),
            "COMMANDS": str(COMMANDS),
            "POSTGRES_COMMANDS": str(postgres_commands()),
            "PATH": child_environment()["PATH"],
            # Prefect's workers create a folder in it; in /tmp another user's worker may own that folder.
            "TMPDIR": str(LOCAL / "tmp"),
            **{f"RUN_{name.upper().replace('-', '_')}": self._without_others(name) for name in SECRETS},
        }
        identity = ["--user", "root"] if os.geteuid() == 0 else []
        subprocess.run([COMMANDS / "supervisord", "--configuration", CONFIG, *identity], env=variables, check=True)
        deadline = time.monotonic() + PATIENCE_S
        while not self.running():
            if time.monotonic() > deadline:
                raise InputError(f"supervisord does not answer; {LOCAL}/log/supervisord.log says why")
            time.sleep(0.1)

    def _without_others(self, program: str) -> str:
        """Return the command `env` that takes the secrets of other programs out of a program's environment."""
        secrets = {name for name in self._environment.variables if re.search("PASSWORD|SECRET|KEY|AUTH", name)}
        return "env " + " ".join(f"--unset={name}" for name in sorted(secrets - set(SECRETS[program])))

    def start_program(self, name: str) -> None:
        """Start a server unless it runs.

        Raises:
            InputError: the server does not start.
        """
        try:
            self._calls.startProcess(name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != ALREADY_STARTED:
                raise InputError(f"{name} does not start: {fault.faultString}; see {LOCAL}/log/{name}.log") from fault

    def started_s(self, name: str) -> float:
        """Return the time at which a server's process was started, in seconds since 1970."""
        return float(self._calls.getProcessInfo(name)["start"])

    def stop(self) -> None:
        """Stop all servers, the last started first, then supervisord itself, and wait until it has ended."""
        process = self._calls.getPID()
        self._calls.shutdown()
        while Path(f"/proc/{process}").exists():
            time.sleep(0.1)

    def states(self) -> dict[str, str]:
        """Return each server's state, such as RUNNING, STARTING, BACKOFF, STOPPED or FATAL.

        Raises:
            InputError: supervisord does not run.
        """
        if not self.running():
            raise InputError("no server is running; `make up` starts them")
        return {entry["name"]: entry["statename"] for entry in self._calls.getAllProcessInfo()}


def postgres_commands() -> Path:
    """Return the folder of the newest PostgreSQL's commands, where Debian puts them.

    Raises:
        InputError: PostgreSQL is not installed.
    """
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders:
        raise InputError("PostgreSQL is not installed; run `apt-get install postgresql`")
    return folders[-1]
