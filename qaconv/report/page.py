"""Render a report as one HTML page that needs no other file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qaconv.metrics.rankings import DIRECT
from qaconv.release.gate import Comparison
from qaconv.report import charts, drawings
from qaconv.report.content import TRANSIT_S, Figure, Report, Target
from qaconv.tlift.findings import ACTIONS, MEANINGS

RUN = "<!-- the run -->"  # replaced by `add_run`


def render_page(report: Report, pictures: Mapping[str, Mapping[str, str]]) -> str:
    """Return the page; the same content and pictures give the same text.

    Args:
        report: content.
        pictures: data URIs of `Target.images` by target and image.
    """
    return (
        _templates()
        .get_template("report.html.jinja")
        .render(report=report, sentences=_sentences(report), pictures=pictures, run_mark=Markup(RUN))
    )


@dataclass(frozen=True)
class Run:
    """The run that made a page, which the stages do not know.

    Attributes:
        facts: by name, such as the commit.
        links: addresses of some of the facts.
        verdict: whether the model was promoted, and why.
        champion: comparison with the champion by target.
    """

    facts: Mapping[str, str]
    links: Mapping[str, str]
    verdict: str
    champion: Mapping[str, Comparison]


def add_run(page: str, run: Run) -> str:
    """Add a section about the run to a page of `render_page`.

    Raises:
        ValueError: the page has no place for it, or more than one.
    """
    if page.count(RUN) != 1:
        raise ValueError(f"the page must have one place for the run, got {page.count(RUN)}")
    return page.replace(RUN, _templates().get_template("run.html.jinja").render(run=run))


def _sentences(report: Report) -> list[str]:
    """Write a sentence on each method's rank-1, on targets that were not trained on if any, or else on estimates."""
    targets = report.targets
    if not targets:
        names = ", ".join(target.name for target in report.estimated)
        return [
            f"Nobody has stated who is on the images of {names}, so how often the model is right was not measured.",
            "What is shown here is estimated from the probabilities that it states.",
        ]
    new = [target for target in targets if not target.seen]
    shown = new or targets
    networks = "a camera network" if len(shown) == 1 else "camera networks"
    origin = "never seen in training" if new else "used in training"
    _, *others = report.methods
    first = "For a query image of a person, the model ranks an image of the same person on another camera first"
    return [
        f"{first} in {_hundreds(shown, report.served)}: {networks} {origin}.",
        *(f"The method {other} does so in {_hundreds(shown, other)}." for other in others),
    ]


def _hundreds(targets: Sequence[Target], method: str) -> str:
    counts = [round(100 * target.figures[method][DIRECT.key]["rank1"].value) for target in targets]
    if len(targets) > 3:
        return f"{min(counts)} to {max(counts)} of 100 searches on {len(targets)} targets"
    parts = [f"{count} of 100 searches on {target.name}" for count, target in zip(counts, targets, strict=True)]
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("qaconv.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": _percent, "interval": _interval, "signed": "{:+.2f}".format, "g": "{:g}".format}
    environment.globals |= {"charts": charts, "drawings": drawings, "transit_s": TRANSIT_S}
    environment.globals |= {"FINDING_KINDS": MEANINGS, "FINDING_ACTIONS": ACTIONS}
    return environment


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _interval(figure: Figure) -> str:
    return f"{_percent(figure.low)}–{_percent(figure.high)}"
