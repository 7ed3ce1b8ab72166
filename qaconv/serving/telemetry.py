"""Metrics for Prometheus, and a log of JSON lines."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from qaconv.serving.replication.link import Link
from qaconv.serving.service import Service

WORKERS = "PROMETHEUS_MULTIPROC_DIR"  # which prometheus_client reads when it is imported


def log_as_json() -> None:
    """Write every log record to stderr as one line of JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)  # else Pillow's warning of a decompression bomb would be plain text


def count_over_workers(folder: Path) -> None:
    """Let workers that are started from now on add up their counts, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    os.environ[WORKERS] = str(folder.absolute())


def collect_metrics(service: Service, link: Link | None = None) -> None:
    """Add the service's metrics, and those of its link to a leader, to those of the process."""
    REGISTRY.register(_ServiceMetrics(service, link))


def write_metrics(targets: frozenset[str] | None) -> bytes:
    """Return the process's metrics in the format of Prometheus.

    Args:
        targets: metrics of other targets are left out. None: every target's.
    """
    registry = CollectorRegistry()
    registry.register(_MetricsOf(targets))
    return generate_latest(registry)


class _MetricsOf(Collector):
    def __init__(self, targets: frozenset[str] | None) -> None:
        self._targets = targets

    def collect(self) -> Iterator[Metric]:
        for metric in _metrics_of_workers() if WORKERS in os.environ else REGISTRY.collect():
            if self._targets is not None:
                metric.samples = [
                    sample for sample in metric.samples if sample.labels.get("target", "") in {"", *self._targets}
                ]
            yield metric


def _metrics_of_workers() -> Iterator[Metric]:
    """Yield what all workers have counted together, and the service's metrics as this one sees them."""
    counted = list(MultiProcessCollector(CollectorRegistry()).collect())  # type: ignore[no-untyped-call]
    yield from counted
    names = {metric.name for metric in counted}
    for metric in REGISTRY.collect():
        if metric.name.startswith("qaconv_") and metric.name not in names:  # process_cpu_seconds is of one worker
            yield metric


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields | getattr(record, "fields", {}))


class _ServiceMetrics(Collector):
    def __init__(self, service: Service, link: Link | None) -> None:
        self._service = service
        self._link = link

    def collect(self) -> Iterator[GaugeMetricFamily]:
        active = self._service.active
        stored = GaugeMetricFamily("qaconv_sightings", "Sightings that are searched.", labels=["target"])
        for name, gallery in active.galleries.items():
            stored.add_metric([name], len(gallery))
        yield stored
        recall = GaugeMetricFamily(
            "qaconv_shortlist_recall", "Share of the ten best matches that shortlists held.", labels=["target"]
        )
        samples = GaugeMetricFamily("qaconv_shortlist_samples", "Searches that it is the mean of.", labels=["target"])
        for name, (mean, count) in self._service.recall.means().items():
            recall.add_metric([name], mean)
            samples.add_metric([name], count)
        yield recall
        yield samples
        yield GaugeMetricFamily("qaconv_capacity", "Largest number of sightings, by serve.memory_mb.", active.capacity)
        yield GaugeMetricFamily(
            "qaconv_reencoding", "1 while stored crops are encoded for a new version.", self._service.reencoding
        )
        model = GaugeMetricFamily("qaconv_model", "1 for the version that answers.", labels=["version"])
        model.add_metric([active.version], 1)
        yield model
        if self._link is not None:
            yield GaugeMetricFamily(
                "qaconv_copy_age_seconds", "Since the copy had all that its leader had.", self._link.age_s
            )
            yield GaugeMetricFamily(
                "qaconv_copy_missing_sightings", "Sightings that the copy lacks, at most.", self._link.missing
            )
