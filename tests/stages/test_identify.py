import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from qaconv.config import Params, load_params
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.errors import InputError
from qaconv.identities.summary import Summary
from qaconv.matching.results import Matches
from qaconv.paths import IDENTITIES, TLIFT
from qaconv.stages import fit_tlift
from qaconv.stages import identify as stage
from qaconv.tables import as_scores
from qaconv.tlift import TLiftProfile, fit_profile
from tests.imports import PROJECT

PEOPLE, CAMERAS, CROPS = 25, 3, 2
COUNT = PEOPLE * CAMERAS * CROPS
Scene = tuple[Params, pd.DataFrame, Matches]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Sightings of people who walk past three cameras, a minute apart, and scores that tell most of them apart."""
    rng = np.random.default_rng(0)
    person, camid, crop = np.indices((PEOPLE, CAMERAS, CROPS)).reshape(3, -1)
    time_s = 400.0 * person + 60.0 * camid + 2.0 * crop + rng.uniform(0, 3, COUNT)
    split = np.where(crop == 0, "query", "gallery")
    order = np.lexsort((np.arange(COUNT), split == "gallery"))
    frame = pd.DataFrame(
        {
            "image": [f"{number:04d}.png" for number in range(COUNT)],
            "pid": person[order],
            "camid": camid[order],
            "time_s": time_s[order],
            "split": split[order],
            "domain": "shop",
            "track": "",
        }
    )
    same = frame["pid"].to_numpy()[:, None] == frame["pid"].to_numpy()
    logits = np.triu(rng.normal(np.where(same, 2.0, -3.0), 1.5), 1)
    logits += logits.T
    others = np.where(np.eye(COUNT, dtype=bool), -np.inf, logits)
    nearest = np.argsort(-others, axis=1)[:, :60]
    queries = int((split == "query").sum())
    table = logits[:queries, queries:].astype(np.float32)
    matches = Matches(
        table, expit(table), expit(table), nearest, np.take_along_axis(logits, nearest, axis=1), "digest", {}
    )
    return load_params(PROJECT / "params.yaml"), frame, matches


@pytest.fixture
def project(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.chdir(tmp_path)
    params, frame, matches = scene
    prepare(frame, matches, monkeypatch)
    return params, frame, matches


def prepare(frame: pd.DataFrame, matches: Matches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stage find these sightings and matches, and a profile that is fitted to them."""
    profile = fit_profile(
        matches.neighbours,
        as_scores(matches.neighbour_logits),
        frame["camid"],
        frame["time_s"],
        drawn=matches.draw_pairs(),
        model=matches.model,
    )
    profile.save(TLIFT / "shop" / "qaconv.json")
    monkeypatch.setattr(Manifest, "load", lambda folder: Manifest(frame, folder))
    monkeypatch.setattr(Matches, "load", lambda *_: matches)


def table() -> pd.DataFrame:
    return pd.read_parquet(IDENTITIES / "shop" / "identities.parquet")


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((IDENTITIES / "shop").iterdir())}


def test_people_who_walk_past_cameras_become_identities_with_journeys(project: Scene) -> None:
    params, frame, _ = project
    stage.identify(params, "shop")
    written = table()
    assert written["image"].tolist() == frame["image"].tolist()
    most_frequent = written.assign(pid=frame["pid"]).groupby("pid")["identity"].agg(lambda numbers: numbers.mode()[0])
    assert (written["identity"] == frame["pid"].map(most_frequent)).mean() > 0.95
    assert written["probability"].between(0, 1).all()
    visits = pd.read_parquet(IDENTITIES / "shop" / "visits.parquet")
    assert visits.groupby("identity")["camid"].apply(list).value_counts().index[0] == [0, 1, 2]
    summary = Summary.load(IDENTITIES / "shop" / "summary.json")
    assert (summary.sightings, summary.time_used) == (COUNT, True)
    assert summary.people.low <= PEOPLE <= summary.people.high


def test_identities_map_what_the_profile_states_and_do_not_change_by_it(
    project: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, frame, matches = project
    params = params.model_copy(update={"methods": {"qaconv": params.method("qaconv")}})
    prepare(frame.assign(track=[f"walk {row}" for row in range(COUNT)]), matches, monkeypatch)
    for name in ("draw_profile", "draw_rank_changes"):
        monkeypatch.setattr(fit_tlift, name, lambda *_: None)
    fit_tlift.fit_tlift(params, "shop")
    path = TLIFT / "shop" / "qaconv.json"
    profile = TLiftProfile.load(path)
    assert profile.match_odds and profile.match_odds.by_identities
    stage.identify(params, "shop")
    mapped = table()
    replace(profile, match_odds=replace(profile.match_odds, by_identities=None)).save(path)
    stage.identify(params, "shop")
    assert table().equals(mapped)


def test_no_pid_is_read(project: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    params, frame, matches = project
    stage.identify(params, "shop")
    before = contents()
    prepare(frame.assign(pid=UNLABELLED), matches, monkeypatch)
    stage.identify(params, "shop")
    assert contents() == before


def test_since_an_earlier_result_old_sightings_keep_their_numbers_and_new_ones_join(project: Scene) -> None:
    params, frame, _ = project
    stage.identify(params, "shop")
    whole = table()
    earlier = Path("earlier")
    shutil.copytree(IDENTITIES / "shop", earlier)
    is_old = frame.index % 10 > 0
    whole[is_old].assign(identity=whole["identity"] + 100).to_parquet(earlier / "identities.parquet")
    stage.identify(params, "shop", earlier)
    written = table()
    joined = whole["identity"].isin(whole["identity"][is_old])
    assert (written["identity"][joined] == whole["identity"][joined] + 100).mean() > 0.97
    assert written["identity"].min() > 100


def test_the_number_of_an_identity_whose_sightings_are_gone_is_never_given_again(
    project: Scene,
) -> None:
    params, _, _ = project
    stage.identify(params, "shop")
    last = int(table()["identity"].max())
    one_less = Path("one_less")
    shutil.copytree(IDENTITIES / "shop", one_less)
    kept = table()[table()["identity"] < last]
    kept.to_parquet(one_less / "identities.parquet")  # as after a deletion
    stage.identify(params, "shop", one_less)
    again = table()
    assert last not in again["identity"].tolist()
    assert again["identity"].max() == last + 1
    assert Summary.load(IDENTITIES / "shop" / "summary.json").last_number == last + 1


def test_since_its_own_result_nothing_changes(project: Scene) -> None:
    params, _, _ = project
    stage.identify(params, "shop")
    before = contents()
    stage.identify(params, "shop", IDENTITIES / "shop")
    assert contents() == before


def test_a_failure_while_writing_leaves_the_earlier_result_whole(
    project: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, _, _ = project
    stage.identify(params, "shop")
    before = contents()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Summary, "save", fail)
    with pytest.raises(OSError, match="no space"):
        stage.identify(params, "shop", IDENTITIES / "shop")
    assert contents() == before
    assert sorted(path.name for path in IDENTITIES.iterdir()) == ["shop"]


def test_an_earlier_result_of_another_target_is_refused(project: Scene) -> None:
    params, _, _ = project
    stage.identify(params, "shop")
    other = Path("other")
    shutil.copytree(IDENTITIES / "shop", other)
    table().assign(image=lambda rows: "x" + rows["image"]).to_parquet(other / "identities.parquet")
    with pytest.raises(InputError, match=r"other/identities.parquet: must hold sightings of the target, got none of"):
        stage.identify(params, "shop", other)


def test_a_folder_without_an_earlier_result_is_refused(project: Scene) -> None:
    with pytest.raises(InputError, match=r"absent/identities\.parquet"):
        stage.identify(project[0], "shop", Path("absent"))


def test_without_times_scores_alone_decide(project: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    params, frame, matches = project
    prepare(frame.assign(time_s=np.nan), matches, monkeypatch)
    fitted = {"scale": 2.2, "offset": 1.0, "matches": 100, "others": 1000}
    monkeypatch.setattr(stage, "read_trained", lambda _: {"calibration": fitted})
    stage.identify(params, "shop")
    assert not Summary.load(IDENTITIES / "shop" / "summary.json").time_used
    assert not TLiftProfile.load(TLIFT / "shop" / "qaconv.json").active
    assert 0.7 * PEOPLE < table()["identity"].nunique() < 2 * PEOPLE


def test_with_neither_times_nor_a_calibration_each_sighting_is_an_identity(
    project: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    params, frame, matches = project
    prepare(frame.assign(time_s=np.nan), matches, monkeypatch)
    monkeypatch.setattr(stage, "read_trained", lambda _: {"calibration": None})
    stage.identify(params, "shop")
    assert table()["identity"].nunique() == COUNT
    assert "neither times nor a calibration" in caplog.text
