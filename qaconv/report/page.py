"""A report's content and its pictures go in; one HTML page that needs no other file comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qaconv.release.gate import Comparison
from qaconv.report import charts, drawings
from qaconv.report.content import TRANSIT_S, Figure, Report, Target

RUN = "<!-- the run -->"  # where `add_run` writes

RANKINGS = {"direct": "direct", "reranked": "re-ranked", "tlift": "lifted", "reranked_tlift": "re-ranked and lifted"}
METHODS = {"qaconv": "QAConv", "baseline": "baseline"}


def render_page(report: Report, pictures: Mapping[str, Mapping[str, str]]) -> str:
    """The page; the same content and pictures give the same text.

    Args:
        report: what it says.
        pictures: data URIs of `Target.images`, by target and image.
    """
    return (
        _templates()
        .get_template("report.html.jinja")
        .render(report=report, sentences=_sentences(report.targets), pictures=pictures, run_mark=Markup(RUN))
    )


@dataclass(frozen=True)
class Run:
    """The run that a page was made by, which the stages know nothing of.

    Attributes:
        facts: what to say by name, such as the commit.
        links: addresses of some of these.
        verdict: whether the model was promoted, and why.
        champion: the model beside the champion, by target.
    """

    facts: Mapping[str, str]
    links: Mapping[str, str]
    verdict: str
    champion: Mapping[str, Comparison]


def add_run(page: str, run: Run) -> str:
    """The page of `render_page` with a word on the run.

    Raises:
        ValueError: the page has no place for it.
    """
    if page.count(RUN) != 1:
        raise ValueError(f"the page has {page.count(RUN)} places for the run; legal is one")
    return page.replace(RUN, _templates().get_template("run.html.jinja").render(run=run))


def _sentences(targets: Sequence[Target]) -> list[str]:
    """What the model can do, for whoever reads no further: on networks that are new to it, where there are any."""
    new = [target for target in targets if not target.seen]
    shown = new or targets
    where = "a camera network it has never seen" if len(shown) == 1 else "camera networks it has never seen"
    if not new:
        where = where.replace("it has never seen", "it was trained on")
    first = "Given one picture of a person, the model puts the same person, on another camera, first"
    return [
        f"{first} in {_hundreds(shown, 'qaconv')}: {where}.",
        f"A baseline of the same size, trained on the same images, does so in {_hundreds(shown, 'baseline')}.",
    ]


def _hundreds(targets: Sequence[Target], method: str) -> str:
    counts = [round(100 * target.figures[method]["direct"]["rank1"].value) for target in targets]
    if len(targets) > 3:
        return f"{min(counts)} to {max(counts)} of 100 searches at {len(targets)} places"
    parts = [f"{count} of 100 searches at {target.name}" for count, target in zip(counts, targets, strict=True)]
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
    environment.globals |= {"charts": charts, "drawings": drawings, "METHODS": METHODS, "RANKINGS": RANKINGS}
    environment.globals["transit_s"] = TRANSIT_S
    return environment


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _interval(figure: Figure) -> str:
    return f"{_percent(figure.low)}–{_percent(figure.high)}"
