"""Adapt the served method's network to a target without labels."""

import logging
import shutil
from dataclasses import asdict

import pandas as pd

from qaconv.adaptation.answers import Marker, judge_by_answers
from qaconv.adaptation.measurement import measure
from qaconv.adaptation.outcome import METRICS_FILE, PROFILE_FILE, AdaptationMetrics, describe_kept
from qaconv.adaptation.rounds import Adaptation
from qaconv.adaptation.view import View
from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.data.reviewed_pairs import load_reviewed_pairs
from qaconv.errors import InputError
from qaconv.identities import map_by_identities, may_map
from qaconv.matching.results import Matches
from qaconv.matching.target_profile import correct_by_answers
from qaconv.metrics.reviewed import estimate_reviewed
from qaconv.models.checkpoint import load_network, save_network
from qaconv.models.description import weights_digest
from qaconv.paths import ADAPTED, MATCHES, MODELS, PREPARED, TLIFT, UNFINISHED
from qaconv.tlift import TLiftProfile
from qaconv.training.device import find_device, out_of_memory_names
from qaconv.training.holdout import read_holdout
from qaconv.training.methods.trained import TrainedMethod

log = logging.getLogger(__name__)


def adapt(params: Params, target: str) -> None:
    """Write artifacts/adapted/<target>: a network, its temporal profile, rounds.csv and metrics.json.

    A killed run is resumed.

    Where times are not used, or train nothing better, it is the network that the adaptation began with.

    Raises:
        InputError: the sightings have not been matched with this network, an image cannot be read, or the device is
            missing.
    """
    remedy = f"lower identities_per_batch or images_per_identity of methods.{params.registry.method}.train"
    with out_of_memory_names(f"{remedy}, or evaluate.batch_size"):
        _adapt(params, target)


def _adapt(params: Params, target: str) -> None:
    name = params.registry.method
    method = params.method(name)
    if not isinstance(method, TrainedMethod):
        raise InputError(f"methods.{name}: a method of kind {method.kind} is not trained here, so it cannot be adapted")
    manifest = Manifest.load(PREPARED / target)
    matches = Matches.load(target, name)
    profile = TLiftProfile.load(TLIFT / target / f"{name}.json", model=matches.model)
    if matches.model != weights_digest(MODELS / name):
        raise InputError(f"{MATCHES / target}: is of another network than {MODELS / name}; run `dvc repro adapt`")
    unfinished = UNFINISHED / f"adapt-{target}"
    adaptation = Adaptation(
        params,
        method,
        target,
        manifest,
        MODELS / name,
        unfinished,
        find_device(params.machine.device),
    )
    sightings = manifest.sightings()
    rounds = adaptation.run(View(sightings, matches, profile))
    holdout = read_holdout(method.image)
    metrics = measure(adaptation, rounds, holdout)
    reviewed = load_reviewed_pairs(target, params.targets)
    adapted_profile = profile
    if rounds.best.is_changed:
        view = rounds.best.view
        kept = view.matches
        adapted_profile = view.profile
        if may_map(adapted_profile, sightings):
            adapted_profile = map_by_identities(adapted_profile, view.identities.identity, sightings, kept.logits)
        adapted_profile = correct_by_answers(adapted_profile, reviewed, sightings, kept)
        if reviewed is not None:
            answers = judge_by_answers(
                reviewed, sightings, Marker(matches, profile), Marker(kept, adapted_profile), seed=params.seed
            )
            marked = estimate_reviewed(reviewed, sightings, kept.neighbours, kept.neighbour_logits, adapted_profile)
            precision = marked.precision_high if marked else None
            metrics = metrics.model_copy(update={"answers": answers, "reviewed_precision": precision})
    unfinished.mkdir(parents=True, exist_ok=True)
    adapted_profile.save(unfinished / PROFILE_FILE)

    network, _ = load_network(rounds.best.network)
    _, trained = load_network(MODELS / name)
    if rounds.best.is_changed and holdout:
        calibration = holdout.calibrate(network, device=adaptation.device, workers=params.machine.workers)
        trained["calibration"] = asdict(calibration)
    table = pd.DataFrame([each.row() for each in (rounds.first, *rounds.later)])
    save_network(
        network,
        ADAPTED / target,
        trained | {"adapted": adaptation.recipe | {"kept_round": metrics.kept_round, "by_camera": metrics.by_camera}},
        {
            "rounds.csv": table.to_csv(index=False, lineterminator="\n", float_format="%.6f"),
            METRICS_FILE: metrics.model_dump_json(indent=2) + "\n",
            PROFILE_FILE: (unfinished / PROFILE_FILE).read_text(encoding="utf-8"),
        },
    )
    shutil.rmtree(unfinished, ignore_errors=True)
    _report(target, metrics)


def _report(target: str, metrics: AdaptationMetrics) -> None:
    kept = describe_kept(metrics.kept_round, by_camera=metrics.by_camera)
    log.info("%s: the network that is kept: %s; %s", target, kept, metrics.reason)
    if change := metrics.right:
        log.info(
            "%s: of matches of %d people %.1f %% are right by times alone, before %.1f %%",
            target,
            change.count,
            100 * change.after,
            100 * change.before,
        )
