"""Write the report: one HTML page that needs no other file, and its data."""

import logging

from qaconv.adaptation.outcome import METRICS_FILE, AdaptationMetrics
from qaconv.config import Params
from qaconv.files import read_json, replacing_folder, write_json
from qaconv.metrics.estimates_file import load_target
from qaconv.metrics.metrics_file import TargetMetrics
from qaconv.metrics.rankings import list_rankings
from qaconv.models.checkpoint import load_network
from qaconv.paths import ADAPTED, METRICS, MODELS, REPORT
from qaconv.progress import track
from qaconv.report import Report, render_page
from qaconv.report.gather import gather_pictures, gather_target, read_table
from qaconv.report.gather_estimates import gather_estimated

log = logging.getLogger(__name__)


def report(params: Params) -> None:
    """Write artifacts/report: `report.html` with its pictures, and `report.json`, the same without pictures.

    Raises:
        InputError: a file of an earlier stage is missing or cannot be read.
    """
    methods = params.method_names
    head = load_network(MODELS / params.registry.method)[0].head.folded()
    rankings = list_rankings(params.evaluate.rerank)
    targets = []
    estimated = []
    for name in track(params.targets, "gather examples"):
        figures = load_target(METRICS / f"{name}.json", methods=methods)
        if isinstance(figures, TargetMetrics):
            targets.append(gather_target(params, name, figures, head, rankings))
        else:
            estimated.append(gather_estimated(params, name, figures, head))
    content = Report(
        rankings={ranking.key: ranking.label for ranking in rankings},
        methods={method: params.method(method).about for method in methods},
        trained={method: read_json(MODELS / method / "model.json") for method in methods},
        history={method: read_table(MODELS / method / "history.csv") for method in methods},
        seed=params.seed,
        targets=targets,
        estimated=estimated,
        adapted={
            name: AdaptationMetrics.load(ADAPTED / name / METRICS_FILE).model_dump() for name in params.adapt.targets
        },
    )
    page = render_page(content, {target.name: gather_pictures(target) for target in content.networks})
    with replacing_folder(REPORT) as folder:
        (folder / "report.html").write_text(page, encoding="utf-8")
        write_json(folder / "report.json", content.as_data())
    log.info("%s: %.1f MB", REPORT / "report.html", len(page.encode()) / 1e6)
