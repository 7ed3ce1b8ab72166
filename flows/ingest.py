"""Add new batches of sightings in S3 to their datasets, versioned by DVC and git; quarantine what is rejected.

A flow that is killed leaves the batch in the bucket, and the next flow processes it again. Nothing is stored twice, as
images are named by their content. Each batch is handled by itself: one that fails stays, and the others go on.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import Artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.events import announce
from flows.ingest_bucket import Batch, BatchChanged, BatchTable, IngestBucket
from flows.stages import StageFailed, pull_tracked, run_dvc
from qaconv.config import Params, load_params
from qaconv.data.ingest import check_batch
from qaconv.data.ingest_dataset import TABLE, Dataset, Verdict
from qaconv.files import locking

AUTHOR = ("-c", "user.name=qaconv ingest", "-c", "user.email=ingest@localhost")
LOCK = Path(".dvc/tmp/ingest.lock")  # two flows in one folder would write the same dataset
LONGEST_SUBJECT = 72
WAITING = "ingest-waiting"  # artifact


@dataclass(frozen=True)
class IngestResult:
    """The outcome of one batch.

    Attributes:
        dataset: name of the dataset.
        batch: name of the batch.
        accepted: number of new images.
        known: number of images that the dataset had already.
        rejected: number of files that were moved to quarantine.
        message: why files or the whole batch were rejected, or why the batch failed; empty if all is well.
    """

    dataset: str
    batch: str
    accepted: int
    known: int
    rejected: int
    message: str


@dataclass(frozen=True)
class CheckedBatch:
    """A batch whose accepted images are in its dataset's folder, and whose rows are in `Dataset`."""

    batch: Batch
    table: BatchTable
    verdict: Verdict


@flow(name="ingest")
def ingest() -> list[IngestResult]:
    """Ingest every complete batch; the others wait for their files. A second flow in the same folder waits.

    Raises:
        InputError: params.yaml is invalid.
        StageFailed: batches have failed, which stay in the bucket; the others have been ingested.
    """
    log = get_run_logger()
    params = load_params()
    bucket = IngestBucket()
    failures: list[IngestResult] = []
    checked: list[CheckedBatch] = []
    waiting: dict[str, str] = {}
    datasets: dict[Path, Dataset] = {}
    with locking(LOCK):
        pull_tracked(log)
        for batch in bucket.batches():
            with _recording_failure([batch], failures):
                table = bucket.read_table(batch)
                reason = _why_it_waits(batch, table, params)
                if table is not None and not reason:
                    folder = params.dataset(batch.dataset).path.parent
                    dataset = datasets.get(folder) or datasets.setdefault(folder, Dataset(folder))
                    checked.append(CheckedBatch(batch, table, add_to_dataset(bucket, batch, table, dataset, params)))
                elif _is_overdue(batch, params):
                    waiting[batch.prefix] = reason
                else:
                    log.info("%s: %s", batch.prefix, reason)
        results = []
        for dataset, group in groupby(checked, lambda done: done.batch.dataset):
            results += _store(bucket, datasets[params.dataset(dataset).path.parent], list(group), failures)
    report_waiting(waiting)
    if results or failures:
        rows = [asdict(result) for result in results + failures]
        create_table_artifact(rows, key="ingest", description="batches of new sightings")
    if failures:
        reasons = "\n".join(f"{failure.dataset}/{failure.batch}: {failure.message}" for failure in failures)
        raise StageFailed(f"{len(failures)} batches have failed and stay in the bucket:\n{reasons}")
    return results


@task(cache_policy=NO_CACHE)
def add_to_dataset(bucket: IngestBucket, batch: Batch, table: BatchTable, dataset: Dataset, params: Params) -> Verdict:
    """Check a batch, and add the accepted images to its dataset, whose table is not written yet."""
    with TemporaryDirectory(prefix="qaconv-batch-") as name:
        table_path = Path(name) / TABLE
        table_path.write_bytes(table.content)
        images = bucket.download(batch, table, Path(name))
        verdict = check_batch(table_path, images, dataset, params.ingest)
        if len(verdict.accepted):
            dataset.add(verdict, images, datetime.now(UTC).isoformat())
    return verdict


@task(cache_policy=NO_CACHE)
def commit_dataset(folder: Path, batches: Sequence[str]) -> None:
    """Push a dataset to DVC's remote, then a commit of its `.dvc` file to the branch of the origin's HEAD.

    Args:
        folder: the dataset's folder.
        batches: names of the batches that were added, as <dataset>/<batch>.

    Raises:
        StageFailed: the remote cannot be reached, or the origin has moved or rejects the commit.
    """
    log = get_run_logger()
    if not folder.is_dir():  # the first batch may be rejected whole
        return
    tracked = f"{folder}.dvc"
    run_dvc(["add", str(folder)], log)
    run_dvc(["push", tracked], log)
    _git("add", "--", tracked)
    if not _git("diff", "--cached", "--name-only", "--", tracked):
        log.info("%s: unchanged", folder)
        return
    branch = _git("ls-remote", "--symref", "origin", "HEAD").split()[1]
    _git(*AUTHOR, "commit", "--quiet", "--message", _commit_message(batches), "--", tracked)
    _git("push", "--quiet", "origin", f"HEAD:{branch}")


@task(cache_policy=NO_CACHE)
def finish(bucket: IngestBucket, done: CheckedBatch) -> IngestResult:
    """Quarantine what was rejected, and delete the batch from the bucket.

    A batch that has changed since it was checked stays, and the next flow checks it again.
    """
    batch, table, verdict = done.batch, done.table, done.verdict
    rejected = 0
    message = verdict.fault
    bucket.check_unchanged(batch)
    if message or len(verdict.refused) or table.unnamed:
        reasons = dict(verdict.refused[["image", "reason"]].to_numpy())
        rejected = bucket.quarantine(batch, table, message, reasons)
        message = message or f"{rejected} files are in quarantine, with report.json"
        announce("dataset.quarantined", batch.dataset, f"{batch.name}: {message}")
    bucket.delete(batch, table)
    get_run_logger().info("%s: %d new, %d known. %s", batch.prefix, len(verdict.accepted), verdict.known, message)
    return IngestResult(batch.dataset, batch.name, len(verdict.accepted), verdict.known, rejected, message)


def report_waiting(waiting: dict[str, str]) -> None:
    """Log what batches wait for, keep it as an artifact, and announce what the last flow has not announced.

    Args:
        waiting: reason of each batch that has waited longer than `ingest.wait_hours`, by its prefix.
    """
    last: Any = Artifact.get(WAITING)
    announced = {row["batch"]: row["reason"] for row in json.loads(str(last.data))} if last else {}
    for prefix, reason in waiting.items():
        get_run_logger().warning("%s: %s", prefix, reason)
        if announced.get(prefix) != reason:
            announce("dataset.waiting", prefix.partition("/")[0] or "incoming", f"{prefix}: {reason}")
    if waiting or announced:
        rows = [{"batch": prefix, "reason": reason} for prefix, reason in waiting.items()]
        create_table_artifact(rows, key=WAITING, description="batches that wait for files or settings")


def _store(
    bucket: IngestBucket, dataset: Dataset, checked: Sequence[CheckedBatch], failures: list[IngestResult]
) -> list[IngestResult]:
    """Save and commit a dataset, then remove its batches from the bucket."""
    results: list[IngestResult] = []
    batches = [done.batch for done in checked]
    with _recording_failure(batches, failures):
        dataset.save()
        commit_dataset(dataset.folder, [batch.prefix.rstrip("/") for batch in batches])
        for done in checked:
            with _recording_failure([done.batch], failures):
                results.append(finish(bucket, done))
    return results


@contextmanager
def _recording_failure(batches: Sequence[Batch], failures: list[IngestResult]) -> Iterator[None]:
    """Log an exception and add it to the failures of these batches, so that the other batches go on."""
    log = get_run_logger()
    try:
        yield
    except BatchChanged as error:
        log.info("%s; the next run checks it again", error)
    except Exception as error:
        log.exception("%s: failed", ", ".join(batch.prefix for batch in batches))
        failures += [IngestResult(batch.dataset, batch.name, 0, 0, 0, f"{error}") for batch in batches]


def _why_it_waits(batch: Batch, table: BatchTable | None, params: Params) -> str:
    """Return what keeps a batch from being ingested, "" if nothing does."""
    if not batch.name:
        return f"files must be in <dataset>/<batch>/, got {_name_some(sorted(batch.etags))}"
    dataset = params.datasets.get(batch.dataset)
    if dataset is None or dataset.layout != "table" or dataset.path.name != TABLE or dataset.path.is_absolute():
        return f"params.yaml has no dataset {batch.dataset} of layout table in a {TABLE}"
    if table is None:
        return f"lacks {TABLE}, has {_name_some(sorted(batch.etags))}"
    if table.missing:
        unnamed = f"; the table does not name {_name_some(table.unnamed)}" if table.unnamed else ""
        return f"lacks {_name_some(table.missing)}{unnamed}"
    return ""


def _is_overdue(batch: Batch, params: Params) -> bool:
    return datetime.now(UTC) - batch.last_upload >= timedelta(hours=params.ingest.wait_hours)


def _name_some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _commit_message(batches: Sequence[str]) -> str:
    """Name the batches in the subject, or below it if they are too long for it."""
    names = [name.encode("unicode_escape").decode() for name in batches]  # a key may hold any character
    subject = f"Ingest {', '.join(names)}"
    if len(subject) <= LONGEST_SUBJECT:
        return subject
    return "\n".join([f"Ingest {len(names)} batches", "", *names])


def _git(*arguments: str) -> str:
    process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        raise StageFailed(f"`git {' '.join(arguments)}` ended with {process.returncode}: {process.stderr.strip()}")
    return process.stdout.strip()
