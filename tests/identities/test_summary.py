import json
from pathlib import Path

import pytest

from qaconv.errors import InputError
from qaconv.identities.summary import Dwell, Flow, Interval, Precision, Quality, Summary, Trust

FILE = Path("summary.json")
SUMMARY = Summary(
    sightings=10,
    identities=4,
    last_number=6,
    people=Interval(value=3.5, low=3, high=4),
    flows=(Flow(from_camid=0, to_camid=1, journeys=2, low=1, high=2),),
    dwell=(Dwell(camid=0, visits=3, median_s=4.5, low_s=4, high_s=5),),
    quality=Quality(
        precision=(Precision(threshold=0.9, pairs=12, value=0.9, low=0.8, high=0.95),),
        found=Interval(value=0.8, low=0.7, high=0.9),
        purity=Interval(value=0.95, low=0.9, high=1),
        trust=Trust(halves=(), kept_with_permuted_times=0.1),
    ),
    time_used=True,
)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    SUMMARY.save(tmp_path / FILE)
    assert Summary.load(tmp_path / FILE) == SUMMARY
    without = SUMMARY.model_copy(update={"quality": SUMMARY.quality.model_copy(update={"trust": None})})
    without.save(tmp_path / FILE)
    assert Summary.load(tmp_path / FILE) == without


def test_a_missing_figure_is_named(tmp_path: Path) -> None:
    SUMMARY.save(tmp_path / FILE)
    content = json.loads((tmp_path / FILE).read_text())
    del content["people"]["low"]
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"summary\.json: people\.low: .*`dvc repro identify` writes it"):
        Summary.load(tmp_path / FILE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"summary\.json"):
        Summary.load(tmp_path / FILE)


def test_an_interval_holds_its_value() -> None:
    assert Interval.around(5, [1, 2, 3]).high == 5
    assert Interval.around(5, []) == Interval(value=5, low=5, high=5)
