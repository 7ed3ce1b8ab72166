"""Ports and secrets of the local servers: made once, kept in .local/env, read by every server and people's shells."""

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
WEBHOOK = "QACONV_WEBHOOK_URL"  # people's own
GRPC_OFFSET = 10000  # SeaweedFS's own: each of its doors has a second one that far up
ADDRESSES = {  # of those that people look at
    "postgres": "127.0.0.1:{POSTGRES_PORT}",
    "s3": "http://127.0.0.1:{S3_PORT}",
    "mlflow": "http://127.0.0.1:{MLFLOW_PORT}",
    "prefect": "http://127.0.0.1:{PREFECT_PORT}",
}


@dataclass(frozen=True)
class Environment:
    """Variables by name. `MLFLOW_*`, `PREFECT_*` and `AWS_*` are those that the clients read."""

    variables: dict[str, str]

    @classmethod
    def load(cls) -> "Environment":
        """Reads .local/env.

        Raises:
            InputError: there is none, or a variable has no value.
        """
        if not ENV.exists():
            raise InputError(f"{ENV}: is missing; `make up` makes it")
        variables = {name: value for name, value in dotenv_values(ENV).items() if value}
        missing = sorted(_fresh().keys() - variables.keys())
        if missing:
            raise InputError(
                f"{ENV}: has no value for {', '.join(missing)}; delete the file, and `make up` writes a whole one"
            )
        return cls(variables)

    @classmethod
    def load_or_create(cls) -> "Environment":
        """Reads .local/env, which is written with new secrets, for its owner alone, if there is none."""
        if not ENV.exists():
            LOCAL.mkdir(mode=0o711, exist_ok=True)  # PostgreSQL's own user goes through it
            with replacing_file(ENV) as beside:
                beside.touch(mode=0o600)
                text = "# Ports may be changed while nothing runs.\n"
                text += f"# {WEBHOOK}=https://... is told what people should know; then `make up`.\n"
                text += "".join(f"{name}={value}\n" for name, value in _fresh().items())
                beside.write_text(text, encoding="utf-8")
        return cls.load()

    def __getitem__(self, name: str) -> str:
        return self.variables[name]

    def get(self, name: str) -> str | None:
        """A variable that need not be there."""
        return self.variables.get(name)

    def for_processes(self) -> dict[str, str]:
        """What every server and worker sees: this process's own variables, and ours before them."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
        return {**own, **self.variables}

    def address(self, server: str) -> str:
        """Where people reach a server; empty for what has no door."""
        return ADDRESSES.get(server, "").format(**self.variables)

    def check_ports(self) -> None:
        """Raises InputError, naming servers and ports, if another process listens on one of ours."""
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
            raise InputError(f"ports are taken by other processes: {', '.join(taken)}; others can be set in {ENV}")


def _fresh() -> dict[str, str]:
    """Every variable, with new secrets; ${NAME} stands for another's value, in a shell as well."""
    passwords = (
        "SUPERVISOR_PASSWORD",
        "POSTGRES_PASSWORD",
        "MLFLOW_DATABASE_PASSWORD",
        "PREFECT_DATABASE_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "WEED_JWT_SIGNING_KEY",  # of SeaweedFS's inner doors; people and tools come in by S3
        "WEED_JWT_SIGNING_READ_KEY",
        "WEED_JWT_FILER_SIGNING_KEY",
        "WEED_JWT_FILER_SIGNING_READ_KEY",
    )
    return {
        **{f"{name}_PORT": str(port) for name, port in PORTS.items()},
        **{name: secrets.token_hex(20) for name in passwords},
        "POSTGRES_USER": "postgres" if os.geteuid() == 0 else getpass.getuser(),  # it refuses to run as root
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
