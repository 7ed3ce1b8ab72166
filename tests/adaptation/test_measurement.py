from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qaconv.adaptation.evidence import HeldOutMatches
from qaconv.adaptation.measurement import measure
from qaconv.adaptation.outcome import AdaptationMetrics, Change, describe_kept
from qaconv.adaptation.rounds import Adaptation, Round, Rounds
from qaconv.adaptation.view import View
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.errors import InputError
from qaconv.paths import MODELS, PREPARED
from qaconv.training.methods.trained import TrainedMethod
from tests.adaptation.small_target import COUNT, encode_by_torch, target_params, write_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> tuple[Adaptation, View]:
    folder = tmp_path_factory.mktemp("project")
    params = target_params(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        encode_by_torch(patch)
        view = write_target(params)
        manifest = Manifest.load(PREPARED / "shop")
    method = params.method("qaconv")
    assert isinstance(method, TrainedMethod)
    network = folder / MODELS / "qaconv"
    return Adaptation(params, method, "shop", manifest, network, folder, torch.device("cpu")), view


def rounds(view: View, *shares: float) -> Rounds:
    """Return rounds with these shares of right matches of two people held out."""
    held_out = np.full(COUNT, -1)
    held_out[:2] = 0, 1
    made = [
        Round(number, Path("none"), view, HeldOutMatches(np.full(2, 4 * share), np.full(2, 4.0)))
        for number, share in enumerate(shares)
    ]
    return Rounds(made[0], made[1:], held_out, "no reason")


@pytest.mark.parametrize(
    ("right", "kept"),
    [
        pytest.param((2.4, 2.4), 0, id="worse than norms"),
        pytest.param((4.0, 1.0), 0, id="perhaps no better than the first network"),
        pytest.param((4.0, 2.2), 1, id="perhaps worse than norms"),
        pytest.param((3.6, 3.6), 1, id="better than both"),
    ],
)
def test_after_norms_of_each_camera_a_round_is_kept_if_it_is_better_with_confidence_and_not_worse_than_norms(
    target: tuple[Adaptation, View], right: tuple[float, float], kept: int
) -> None:
    adaptation, view = target
    made = rounds(view, 0.5, 0.0)
    normed, trained = (
        replace(each, by_camera=True, matches=HeldOutMatches(np.array(of_people), np.full(2, 4.0)))
        for each, of_people in ((made.first, (2.8, 2.8)), (made.trained[0], right))
    )
    by_all = Change(before=0.5, after=0.55, low=0.01, high=0.09, count=COUNT)
    metrics = measure(adaptation, replace(made, later=[normed, trained], norms=by_all), None)
    assert (metrics.kept_round, metrics.by_camera, metrics.camera_norms) == (kept, True, by_all)
    assert metrics.right
    assert (metrics.right.before, metrics.right.after) == (0.5, sum(right) / 8 if kept else 0.55)


def test_what_is_kept_is_said_in_words() -> None:
    assert [describe_kept(kept, by_camera=by_camera) for kept in (0, 2) for by_camera in (False, True)] == [
        "stays as trained",
        "batch norms of each camera",
        "round 2",
        "round 2 with batch norms of each camera",
    ]


@pytest.mark.parametrize(("shares", "kept"), [((0.5, 0.75, 0.7), 1), ((0.5, 0.4), 0), ((0.5, 0.5), 0), ((0.5,), 0)])
def test_the_round_with_the_largest_share_is_kept_and_the_first_of_equal_ones(
    target: tuple[Adaptation, View], shares: tuple[float, ...], kept: int
) -> None:
    adaptation, view = target
    metrics = measure(adaptation, rounds(view, *shares), None)
    assert metrics.kept_round == kept
    assert metrics.right
    assert (metrics.right.before, metrics.right.after) == (0.5, shares[kept])
    assert metrics.before.source_map is None


def test_labels_measure_where_there_are_some_and_nowhere_else(target: tuple[Adaptation, View]) -> None:
    adaptation, view = target
    before = measure(adaptation, rounds(view, 0.5), None).before
    assert before.rankings
    assert before.rankings["direct"] == pytest.approx(before.held_out, abs=0.3)
    frame = adaptation.manifest.frame.assign(pid=UNLABELLED)
    unlabelled = replace(adaptation, manifest=replace(adaptation.manifest, frame=frame))
    figures = measure(unlabelled, rounds(view, 0.5), None).before
    assert (figures.rankings, figures.held_out) == (None, None)
    assert figures.expected_precision == before.expected_precision


def test_a_file_that_is_no_measurement_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"kept_round": 1, "reason": ""}')
    with pytest.raises(InputError, match=r"metrics\.json: right: Field required; `dvc repro adapt` writes it"):
        AdaptationMetrics.load(tmp_path / "metrics.json")
