"""Settings of the flows and the service, on which no stage depends."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from qaconv.config.values import Name, Settings, Share


class GateConfig(Settings):
    """When a challenger becomes the champion: all conditions must hold."""

    min_gain: Annotated[float, Field(ge=0)]  # mAP points, direct matching, mean over the targets, with 95 % confidence
    max_loss: Annotated[float, Field(ge=0)]  # mAP points that a single target may lose
    max_calibration_error: Share  # of the probabilities, at even odds, on every target
    min_match_precision: Share = 0.85  # right ones among the answers marked as matches, where measured
    max_match_loss: Annotated[float, Field(ge=0)] = 5  # points of searches with a match, on a target without labels
    max_bad_clocks: Share  # fraction of a target's cameras with times left out, where times are used
    max_onnx_difference: PositiveFloat  # of ONNX from PyTorch, relative to the largest value if that is above 1
    max_megabytes: PositiveFloat  # of both graphs together
    max_encoder_ms: PositiveFloat  # for one crop, on one thread of the CPU that registers
    min_site_gain: Annotated[float, Field(ge=0)] = 0.0  # points without labels, of an adapted network, with 95 %
    max_forgotten: Annotated[float, Field(ge=0)] = 5.0  # mAP points on the sources' people held out, by adapting


class IngestConfig(Settings):
    """What a batch of new sightings must fulfil to be accepted, and when an incomplete one is reported."""

    max_share_change: Share  # largest change of a camera's share of the images, against the dataset before
    share_from: PositiveInt  # fewest images of batch and dataset for which shares are compared
    wait_hours: Annotated[float, Field(ge=0)] = 24  # since its last upload until an incomplete batch is reported


class DriftConfig(Settings):
    """When new sightings count as drifted from what the champion was measured on."""

    sightings: Annotated[int, Field(ge=10)]  # newest sightings before and since the champion to compare
    fewest: Annotated[int, Field(ge=10)]  # of either; fewer are not compared
    max_score_change: Share  # Kolmogorov-Smirnov distance of the best scores
    max_confident_drop: Share  # drop of the share of sightings with a match that is more likely than not
    max_share_change: Share  # largest change of a camera's share of the sightings
    min_transit_gain: Share  # of the earlier gain that matches have from their times
    start: bool  # whether a finding starts fit_target (cameras, clocks, transits), or adapt or retrain (scores)


class ServeConfig(Settings):
    """The service. No stage depends on it."""

    memory_mb: PositiveInt  # for index and cache of all galleries; half is reserved for those of the next model
    shortlist: PositiveInt  # sightings that a query is matched with in full
    requests_per_minute: PositiveInt  # for each key
    poll_s: PositiveFloat  # seconds between looking for a new champion and for expired sightings
    retention_days: dict[Name, PositiveFloat]  # by target; a target without an entry keeps its sightings
