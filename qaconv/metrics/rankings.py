"""Name the rankings of a gallery, and their metrics in files, plots and MLflow."""

from dataclasses import dataclass
from typing import Protocol

LIFTED = "tlift"


@dataclass(frozen=True)
class Ranking:
    """One way to rank a gallery.

    Attributes:
        key: name in metrics files, plots and MLflow.
        label: name on pages.
        reranked: whether the scores are the re-ranker's.
        lifted: whether the scores are lifted by times.
    """

    key: str
    label: str
    reranked: bool = False
    lifted: bool = False


class RerankedRanking(Protocol):
    """What a re-ranker says about its ranking."""

    @property
    def key(self) -> str:
        """Name of its ranking in metrics files, plots and MLflow."""

    @property
    def label(self) -> str:
        """Name of its ranking on pages."""


DIRECT = Ranking("direct", "direct")


def list_rankings(reranker: RerankedRanking) -> tuple[Ranking, ...]:
    """List every ranking that is evaluated, reported and registered.

    Args:
        reranker: the kind that `evaluate.rerank` names.

    Example:
        >>> from qaconv.matching.rerankers import KReciprocal
        >>> [ranking.key for ranking in list_rankings(KReciprocal())]
        ['direct', 'reranked', 'tlift', 'reranked_tlift']
    """
    return (
        DIRECT,
        Ranking(reranker.key, reranker.label, reranked=True),
        Ranking(LIFTED, "lifted", lifted=True),
        Ranking(f"{reranker.key}_{LIFTED}", f"{reranker.label} and lifted", reranked=True, lifted=True),
    )


def is_lifted(key: str) -> bool:
    """Return whether a ranking's scores are odds that times have lifted."""
    return key == LIFTED or key.endswith(f"_{LIFTED}")


def metric_name(method: str, ranking: str, figure: str, *, target: str = "") -> str:
    """Return the name of a figure in MLflow, such as `mall.qaconv.direct.mAP`; without a target, as in its file."""
    name = f"{method}.{ranking}.{figure}"
    return f"{target}.{name}" if target else name


def cmc_column(method: str, ranking: str) -> str:
    """Return the column of `metrics/cmc/<target>.csv` that holds a ranking's curve."""
    return f"{method}_{ranking}"


def average_precision_column(method: str, ranking: str) -> str:
    """Return the column of `metrics/queries/<target>.parquet` that holds a ranking's average precisions."""
    return f"{method}_{ranking}_average_precision"


def first_rank_column(method: str, ranking: str) -> str:
    """Return the column of `metrics/queries/<target>.parquet` that holds the ranks of the first true matches."""
    return f"{method}_{ranking}_first_rank"
