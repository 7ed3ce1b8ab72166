"""Add new batches of sightings in S3 to their datasets, versioned by DVC and git; quarantine what is rejected.

A flow that is killed leaves the batch in the bucket, and the next flow processes it again. Nothing is stored twice, as
images are named by their content.
"""

import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.events import announce
from flows.ingest_bucket import Batch, IngestBucket
from flows.stages import Logger, StageFailed, pull_tracked, run_dvc
from qaconv.config import Params, load_params
from qaconv.data.ingest import TABLE, Verdict, check_batch, join

AUTHOR = ("-c", "user.name=qaconv ingest", "-c", "user.email=ingest@localhost")


@dataclass(frozen=True)
class IngestResult:
    """The outcome of one batch.

    Attributes:
        dataset: name of the dataset.
        batch: name of the batch.
        accepted: number of new images.
        known: number of images that the dataset had already.
        rejected: number of images that were moved to quarantine.
        message: why images or the whole batch were rejected; empty if none were.
    """

    dataset: str
    batch: str
    accepted: int
    known: int
    rejected: int
    message: str


@flow(name="ingest")
def ingest() -> list[IngestResult]:
    """Ingest every complete batch; the others wait for their images.

    Raises:
        InputError: params.yaml is invalid.
        StageFailed: DVC or git has failed; every batch stays in the bucket.
    """
    log = get_run_logger()
    bucket = IngestBucket()
    params = load_params()
    pull_tracked(log)
    batches = [batch for batch in bucket.batches() if _is_ready(batch, params, log)]
    verdicts = [add_to_dataset(bucket, batch, params) for batch in batches]
    if folders := sorted({str(_dataset_folder(batch, params)) for batch in batches}):
        commit_datasets(folders, f"Ingest {', '.join(f'{batch.dataset}/{batch.name}' for batch in batches)}")
    results = [finish(bucket, batch, verdict) for batch, verdict in zip(batches, verdicts, strict=True)]
    if results:
        rows = [asdict(result) for result in results]
        create_table_artifact(rows, key="ingest", description="batches of new sightings")
    return results


def _is_ready(batch: Batch, params: Params, log: Logger) -> bool:
    """Return whether a batch is complete and its dataset can grow; log the reason if not."""
    dataset = params.datasets.get(batch.dataset)
    if dataset is None or dataset.layout != "table" or dataset.path.name != TABLE or dataset.path.is_absolute():
        log.warning("%s: params.yaml has no dataset %s of layout table in a %s", batch.prefix, batch.dataset, TABLE)
        return False
    if batch.missing:
        log.info("%s: waits for %d images, such as %s", batch.prefix, len(batch.missing), batch.missing[0])
        return False
    return True


@task(cache_policy=NO_CACHE)
def add_to_dataset(bucket: IngestBucket, batch: Batch, params: Params) -> Verdict:
    """Check a batch, and add the accepted images to its dataset in the working folder."""
    dataset = _dataset_folder(batch, params)
    with TemporaryDirectory(prefix="qaconv-batch-") as name:
        bucket.download(batch, Path(name))
        verdict = check_batch(Path(name), dataset, params.ingest)
        if len(verdict.accepted):
            join(verdict, Path(name), dataset, datetime.now(UTC).isoformat())
    return verdict


@task(cache_policy=NO_CACHE)
def commit_datasets(folders: list[str], subject: str) -> None:
    """Push the datasets to DVC's remote, then a commit of their `.dvc` files to the branch of the origin's HEAD.

    Raises:
        StageFailed: the remote cannot be reached, or the origin has moved or rejects the commit.
    """
    log = get_run_logger()
    folders = [folder for folder in folders if Path(folder).is_dir()]  # a dataset's first batch may be rejected whole
    tracked = [f"{folder}.dvc" for folder in folders]
    if not folders:
        return
    run_dvc(["add", *folders], log)
    run_dvc(["push", *tracked], log)
    _git("add", "--", *tracked)
    if not _git("diff", "--cached", "--name-only"):
        log.info("%s: unchanged", ", ".join(folders))
        return
    branch = _git("ls-remote", "--symref", "origin", "HEAD").split()[1]
    _git(*AUTHOR, "commit", "--quiet", "--message", subject, "--", *tracked)
    _git("push", "--quiet", "origin", f"HEAD:{branch}")


@task(cache_policy=NO_CACHE)
def finish(bucket: IngestBucket, batch: Batch, verdict: Verdict) -> IngestResult:
    """Quarantine what was rejected, and delete the batch from the bucket."""
    rejected = len(verdict.refused)
    message = verdict.fault
    if rejected or message:
        bucket.quarantine(batch, verdict)
        message = message or f"{rejected} images are in quarantine, with report.json"
        announce("dataset.quarantined", batch.dataset, f"{batch.name}: {message}")
    bucket.delete(batch)
    get_run_logger().info("%s: %d new, %d known. %s", batch.prefix, len(verdict.accepted), verdict.known, message)
    return IngestResult(batch.dataset, batch.name, len(verdict.accepted), verdict.known, rejected, message)


def _dataset_folder(batch: Batch, params: Params) -> Path:
    return params.dataset(batch.dataset).path.parent


def _git(*arguments: str) -> str:
    process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        raise StageFailed(f"`git {' '.join(arguments)}` ended with {process.returncode}: {process.stderr.strip()}")
    return process.stdout.strip()
