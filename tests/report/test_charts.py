from qaconv.report.charts import TRANSIT_HEIGHT, Transit, transit_charts


def rows(camera: int, other: int, centre: float, ratios: list[float]) -> list[dict[str, float]]:
    return [
        {"camera": camera, "other": other, "gap_s": centre + at, "from_centre_s": at, "log_ratio": ratio}
        for at, ratio in zip((-10.0, 0.0, 10.0), ratios, strict=True)
    ]


def test_every_pair_of_cameras_has_its_likeliest_gap_and_all_have_one_scale() -> None:
    first, second = transit_charts(rows(0, 1, 40, [-1, 2, 1]) + rows(0, 2, -30, [0, 1, 4]))
    assert (first.camera, first.other, first.likeliest_s) == (0, 1, 40)
    assert (second.camera, second.other, second.likeliest_s) == (0, 2, -20)
    assert first.chance == second.chance < TRANSIT_HEIGHT - 2  # as one curve is below chance somewhere
    assert min(heights(second)) < min(heights(first))


def heights(chart: Transit) -> list[float]:
    return [float(point.split()[1]) for point in chart.d.strip("MZ").split("L")]


def test_where_nothing_was_fitted_there_is_no_chart() -> None:
    assert transit_charts([]) == []
