"""New batches of sightings in S3 go in; they are in their dataset, versioned by DVC and git, or in quarantine.

A flow that is killed anywhere leaves the batch in the inbox, and the next one does it again: what it had done already
changes nothing, as images are known by their content.
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
from flows.inbox import Batch, Inbox
from flows.stages import Logger, StageFailed, pull_tracked, run_dvc
from qaconv.config import Params, load_params
from qaconv.data.ingest import TABLE, Verdict, check_batch, join

AUTHOR = ("-c", "user.name=qaconv ingest", "-c", "user.email=ingest@localhost")


@dataclass(frozen=True)
class Settled:
    """What has become of a batch: images that are new, were known, were refused, and a word on the whole."""

    dataset: str
    batch: str
    accepted: int
    known: int
    refused: int
    word: str


@flow(name="ingest")
def ingest() -> list[Settled]:
    """Takes in every batch that is whole; the others wait.

    Raises:
        InputError: params.yaml is refused.
        StageFailed: DVC or git has failed; every batch stays in the inbox.
    """
    log, inbox = get_run_logger(), Inbox()
    params = load_params()
    pull_tracked(log)
    batches = [batch for batch in inbox.batches() if _can_be_taken_in(batch, params, log)]
    verdicts = [take_in(inbox, batch, params) for batch in batches]
    if changed := sorted({str(_folder(batch, params)) for batch in batches}):
        version(changed, f"Take in {', '.join(f'{batch.dataset}/{batch.name}' for batch in batches)}")
    settled = [settle(inbox, batch, verdict) for batch, verdict in zip(batches, verdicts, strict=True)]
    if settled:
        create_table_artifact([asdict(each) for each in settled], key="ingest", description="batches of new sightings")
    return settled


def _can_be_taken_in(batch: Batch, params: Params, log: Logger) -> bool:
    dataset = params.datasets.get(batch.dataset)
    if dataset is None or dataset.layout != "table" or dataset.path.name != TABLE or dataset.path.is_absolute():
        log.warning("%s: params.yaml has no dataset %s of layout table in a %s", batch.prefix, batch.dataset, TABLE)
        return False
    if batch.awaited:
        log.info("%s: waits for %d images, such as %s", batch.prefix, len(batch.awaited), batch.awaited[0])
        return False
    return True


@task(cache_policy=NO_CACHE)
def take_in(inbox: Inbox, batch: Batch, params: Params) -> Verdict:
    """Checks a batch, and lets what passes join its dataset in the working folder."""
    dataset = _folder(batch, params)
    with TemporaryDirectory(prefix="qaconv-batch-") as name:
        inbox.fetch(batch, Path(name))
        verdict = check_batch(Path(name), dataset, params.ingest)
        if len(verdict.accepted):
            join(verdict, Path(name), dataset, datetime.now(UTC).isoformat())
    return verdict


@task(cache_policy=NO_CACHE)
def version(folders: list[str], subject: str) -> None:
    """Pushes the datasets to DVC's remote, and then a commit that names them to the branch that is checked out there.

    Raises:
        StageFailed: the remote is away, or the branch has moved or does not take it.
    """
    log = get_run_logger()
    folders = [folder for folder in folders if Path(folder).is_dir()]  # a first batch may be refused as a whole
    tracked = [f"{folder}.dvc" for folder in folders]
    if not folders:
        return
    run_dvc(["add", *folders], log)
    run_dvc(["push", *tracked], log)
    _git("add", "--", *tracked)
    if not _git("diff", "--cached", "--name-only"):
        log.info("%s: nothing is new", ", ".join(folders))
        return
    branch = _git("ls-remote", "--symref", "origin", "HEAD").split()[1]
    _git(*AUTHOR, "commit", "--quiet", "--message", subject, "--", *tracked)
    _git("push", "--quiet", "origin", f"HEAD:{branch}")


@task(cache_policy=NO_CACHE)
def settle(inbox: Inbox, batch: Batch, verdict: Verdict) -> Settled:
    """Quarantines what was refused, and empties the inbox of the batch."""
    refused, word = len(verdict.refused), verdict.fault
    if refused or word:
        inbox.quarantine(batch, verdict)
        word = word or f"{refused} images are in quarantine, with report.json"
        announce("dataset.quarantined", batch.dataset, f"{batch.name}: {word}")
    inbox.remove(batch)
    get_run_logger().info("%s: %d new, %d known. %s", batch.prefix, len(verdict.accepted), verdict.known, word)
    return Settled(batch.dataset, batch.name, len(verdict.accepted), verdict.known, refused, word)


def _folder(batch: Batch, params: Params) -> Path:
    return params.dataset(batch.dataset).path.parent


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"`git {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()
