"""A service goes in; what it holds is among the figures that Prometheus reads, and what it says is JSON, one a line."""

import json
import logging
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from qaconv.serving.service import Service


def log_as_json() -> None:
    """Every line of log on stderr as one JSON object."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)  # Pillow's of a bomb would be lines of text between those of JSON


def collect_metrics(service: Service) -> None:
    """Adds the service's figures to those of the process."""
    REGISTRY.register(_Figures(service))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said | getattr(record, "said", {}))


class _Figures(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[GaugeMetricFamily]:
        answering = self._service.in_charge
        stored = GaugeMetricFamily("qaconv_sightings", "Sightings that can be found.", labels=["target"])
        for name, gallery in answering.galleries.items():
            stored.add_metric([name], len(gallery))
        yield stored
        yield GaugeMetricFamily("qaconv_capacity", "Sightings that memory is set to hold.", answering.capacity)
        yield GaugeMetricFamily(
            "qaconv_reencoding", "Whether a new model encodes stored crops.", self._service.reencoding
        )
        model = GaugeMetricFamily("qaconv_model", "1 for the version that answers.", labels=["version"])
        model.add_metric([answering.version], 1)
        yield model
