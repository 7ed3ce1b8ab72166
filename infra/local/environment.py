"""Create and read the ports and secrets of the local servers, which are in .local/env.

Every server reads them, and people's shells may.
"""

import getpass
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from qaconv.errors import InputError
from qaconv.files import replacing_file

PROJECT = Path(__file__).resolve().parents[2]
LOCAL = PROJECT / ".local"
ENV = LOCAL / "env"
PORTS = {
    "SUPERVISOR": 17901,
    "POSTGRES": 17432,
    "S3": 17333,
    "SEAWEED_MASTER": 17334,
    "SEAWEED_VOLUME": 17335,
    "SEAWEED_FILER": 17336,
    "MLFLOW": 17500,
    "PREFECT": 17420,
}
WEBHOOK = "QACONV_WEBHOOK_URL"  # set by people
GRPC_OFFSET = 10000  # SeaweedFS listens for gRPC on each of its ports plus this
ADDRESSES = {  # of the servers that people use
    "postgres": "127.0.0.1:{POSTGRES_PORT}",
    "s3": "http://127.0.0.1:{S3_PORT}",
    "mlflow": "http://127.0.0.1:{MLFLOW_PORT}",
    "prefect": "http://127.0.0.1:{PREFECT_PORT}",
}


@dataclass(frozen=True)
class Environment:
    """Variables by name; MLflow's, Prefect's and S3's clients read `MLFLOW_*`, `PREFECT_*` and `AWS_*`."""

    variables: dict[str, str]

    @classmethod
    def load(cls) -> "Environment":
        """Read .local/env.

        Raises:
            InputError: the file is missing, or a variable has no value.
        """
        if not ENV.exists():
            raise InputError(f"{ENV}: is missing; `make up` creates it")
        variables = {name: value for name, value in dotenv_values(ENV).items() if value}
        missing = sorted(_new_variables().keys() - variables.keys())
        if missing:
            raise InputError(
                f"{ENV}: must have a value for {', '.join(missing)}; delete the file, and `make up` writes a new one"
            )
        return cls(variables)

    @classmethod
    def load_or_create(cls) -> "Environment":
        """Read .local/env; if it is missing, create it with new secrets, readable by its owner alone."""
        if not ENV.exists():
            LOCAL.mkdir(mode=0o711, exist_ok=True)  # PostgreSQL's user must be able to enter it
            with replacing_file(ENV) as unfinished:
                unfinished.touch(mode=0o600)
                text = "# Ports may be changed while no server runs.\n"
                text += f"# Set {WEBHOOK}=https://... to receive notifications, then run `make up`.\n"
                text += "".join(f"{name}={value}\n" for name, value in _new_variables().items())
                unfinished.write_text(text, encoding="utf-8")
        return cls.load()

    def __getitem__(self, name: str) -> str:
        return self.variables[name]

    def get(self, name: str) -> str | None:
        """Return an optional variable, or None."""
        return self.variables.get(name)

    def for_processes(self) -> dict[str, str]:
        """Return the environment of every server and worker: this process's variables and the file's."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
        return {**inherited, **self.variables}

    def address(self, server: str) -> str:
        """Return the address at which people reach a server; empty if it has none."""
        return ADDRESSES.get(server, "").format(**self.variables)

    def check_ports(self) -> None:
        """Check that no other process listens on the servers' ports.

        Raises:
            InputError: a port is taken; the message names servers and ports.
        """
        taken = []
        for name in PORTS:
            port = int(self[f"{name}_PORT"])
            for candidate in (port, port + GRPC_OFFSET) if name == "S3" or name.startswith("SEAWEED") else (port,):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        probe.bind(("127.0.0.1", candidate))
                    except OSError:
                        taken.append(f"{name.lower()} {candidate}")
        if taken:
            raise InputError(f"ports are taken by other processes: {', '.join(taken)}; set other ports in {ENV}")


def _new_variables() -> dict[str, str]:
    """Return every variable, with new secrets; ${NAME} stands for another variable's value, as in a shell."""
    passwords = (
        "SUPERVISOR_PASSWORD",
        "POSTGRES_PASSWORD",
        "MLFLOW_DATABASE_PASSWORD",
        "PREFECT_DATABASE_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "WEED_JWT_SIGNING_KEY",  # of SeaweedFS's internal ports; people and tools use S3
        "WEED_JWT_SIGNING_READ_KEY",
        "WEED_JWT_FILER_SIGNING_KEY",
        "WEED_JWT_FILER_SIGNING_READ_KEY",
    )
    return {
        **{f"{name}_PORT": str(port) for name, port in PORTS.items()},
        **{name: secrets.token_hex(20) for name in passwords},
        "POSTGRES_USER": "postgres" if os.geteuid() == 0 else getpass.getuser(),  # PostgreSQL refuses to run as root
        "AWS_ENDPOINT_URL": "http://127.0.0.1:${S3_PORT}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": secrets.token_hex(8),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:${MLFLOW_PORT}",
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": secrets.token_hex(20),
        "PREFECT_API_URL": "http://127.0.0.1:${PREFECT_PORT}/api",
        "PREFECT_API_AUTH_STRING": f"admin:{secrets.token_hex(20)}",
    }
