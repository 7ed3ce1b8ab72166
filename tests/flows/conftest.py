"""Start a Prefect server once for the tests of flows, and make a project that they run in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from prefect.testing.utilities import prefect_test_harness

from tests.tracked_projects import write_pipeline
from tests.working_folder import working_in


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Change into a project whose stages copy made-up files, with an MLflow store of its own."""
    folder = tmp_path_factory.mktemp("project")
    with working_in(folder):
        write_pipeline(folder)
        yield folder


@pytest.fixture
def s3() -> Iterator[Any]:
    """Return a client of an in-process S3 with the two buckets."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client("s3")
        for bucket in ("incoming", "quarantine"):
            client.create_bucket(Bucket=bucket)
        yield client
