"""Kinds of another package: registered from outside, without a change of the project, and trained or prepared with."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import PositiveFloat
from torch import Tensor, nn

from qaconv.config import BackboneConfig, DatasetConfig, ImageConfig, Params
from qaconv.config.kinds import KindSettings, LossSettings, RerankSettings, SamplerSettings, read_kind
from qaconv.data.layouts import read as read_dataset
from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import Manifest
from qaconv.data.samplers import Draw, TrainingImages
from qaconv.data.samplers.random import RandomSampler
from qaconv.errors import InputError
from qaconv.matching.rerank import Neighbourhoods
from qaconv.models import QAConv, build_encoder
from qaconv.models.losses import Outcome, PairLoss, build_loss
from qaconv.paths import PREPARED
from qaconv.plugins import Group, register
from qaconv.stages.prepare import prepare
from tests.imports import PROJECT
from tests.training.small_trainings import RECIPE, draw_people, make_method, run

pytestmark = pytest.mark.usefixtures("no_registered_kinds")


class Hinge(PairLoss):
    """A loss of another package, as a function of the logits."""

    kind: Literal["hinge"] = "hinge"
    margin: PositiveFloat = 1.0

    def loss(self, logits: Tensor, pids: Tensor) -> Tensor:
        signs = torch.where(pids[:, None] == pids[None, :], 1.0, -1.0)
        return (self.margin - signs * logits).relu().mean()


class Centres(LossSettings):
    """A loss of another package with weights."""

    kind: Literal["centres"] = "centres"
    needs_pairs: ClassVar[bool] = False

    def build(self, head: QAConv, people: int) -> nn.Module:
        return CentresLoss(head, people)


class CentresLoss(nn.Module):
    def __init__(self, head: QAConv, people: int) -> None:
        super().__init__()
        self.head = head
        self.centres = nn.Parameter(torch.randn(people, head.channels, head.height, head.width))

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        logits = self.head(maps, nn.functional.normalize(self.centres, dim=1))
        right = (logits.argmax(dim=1) == pids).float().mean()
        return Outcome(nn.functional.cross_entropy(logits, pids), right)


class Sorted(SamplerSettings):
    """A sampler of another package: the first images, in order."""

    kind: Literal["sorted"] = "sorted"
    batch_count: int = 1

    def batches(self, images: TrainingImages, rng: np.random.Generator) -> list[list[Draw]]:
        rows = np.argsort(images.labels, kind="stable")[: images.identities * images.images]
        batch = [Draw(int(row), int(rng.integers(2**31))) for row in rows]
        return [batch] * self.batch_count


@pytest.mark.parametrize("loss", [{"kind": "hinge", "margin": 2}, {"kind": "centres"}])
def test_loss_and_sampler_of_another_package_train_a_network(tmp_path: Path, loss: dict[str, object]) -> None:
    register("loss", "hinge")(Hinge)
    register("loss", "centres")(Centres)
    register("sampler", "sorted")(Sorted)
    sampler = {"kind": "sorted", "batch_count": 2}
    method = make_method(loss=loss, sampler=sampler)
    recipe = RECIPE.model_copy(update={"epochs": 3, "identities_per_batch": 3})
    weights, history = run(draw_people(tmp_path / "people"), tmp_path, recipe, method)
    assert len(history) == 3
    assert all(torch.isfinite(value.float()).all() for value in weights.values())


class Headless(Centres):
    """A loss of another package that uses the head and does not keep it."""

    def build(self, head: QAConv, people: int) -> nn.Module:
        module = CentresLoss(head, people)
        del module.head
        return module


class Nothing(SamplerSettings):
    """A sampler of another package that finds no batch."""

    kind: Literal["nothing"] = "nothing"

    def batches(self, images: TrainingImages, rng: np.random.Generator) -> list[list[Draw]]:
        return []


def test_loss_that_does_not_keep_the_head_is_refused() -> None:
    head = QAConv(8, 4, 2)
    assert isinstance(build_loss(Centres(), head, people=3), CentresLoss)
    with pytest.raises(InputError, match="loss 'centres': build must return a .* that keeps the head"):
        build_loss(Headless(), head, people=3)


def test_sampler_that_draws_no_batch_is_refused(tmp_path: Path) -> None:
    method = make_method(sampler=Nothing())
    with pytest.raises(InputError, match="sampler nothing: draws no batch of 30 training images"):
        run(draw_people(tmp_path / "people"), tmp_path, RECIPE, method)


def test_warm_up_of_pairwise_matching_needs_pairs_from_the_sampler() -> None:
    class Warm(Centres):
        def warm_up_epochs(self) -> int:
            return 1

    with pytest.raises(ValueError, match=r"begins with pairwise matching \(1 epochs\), which needs two images"):
        make_method(loss=Warm(), sampler=RandomSampler())
    make_method(loss=Centres(), sampler=RandomSampler())


def test_layout_of_another_package_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @register("layout", "shop")
    def read_shop(root: Path, domain: str, *, first: int, share: float = 1.0) -> Manifest:
        rows = read_names(root, {"train": "."}, r"(?P<pid>\d+)-(?P<camid>\d+)\.png", "7-0.png")
        return Manifest(rows.assign(camid=rows["camid"] - first, time_s=float("nan"), domain=domain), root)

    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    for number in (1, 2):
        Image.new("RGB", (4, 8), (100 * number, 0, 0)).save(f"raw/7-{number}.png")

    def prepare_with(**options: Any) -> None:
        dataset = DatasetConfig(layout="shop", path=Path("raw"), options=options)
        prepare(Params.model_construct(datasets={"street": dataset}, targets=[]), "street")

    prepare_with(first=1, share=1)
    assert Manifest.load(PREPARED / "street").frame["camid"].tolist() == [0, 1]
    for options, message in (
        ({}, "layout shop: needs the options first"),
        ({"first": True}, "layout shop: option first must be of type int, got True"),
        ({"first": 1, "share": "all"}, "layout shop: option share must be of type float, got 'all'"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_with(**options)


def test_backbone_of_another_package_is_built() -> None:
    @register("backbone", "patches")
    def build_patches(config: BackboneConfig, image: ImageConfig) -> nn.Module:
        stride = {"layer2": 8, "layer3": 16, "layer4": 32}[config.last_layer]
        return nn.Conv2d(3, 12, kernel_size=stride, stride=stride)

    config = BackboneConfig(name="patches", last_layer="layer3", neck_channels="none", weights="none")
    assert build_encoder(config).map_size(64, 32) == (4, 2)


def test_reranker_of_another_package_is_read_with_its_settings() -> None:
    @register("rerank", "nothing")
    class Nothing(RerankSettings):
        key: ClassVar[str] = "nothing"
        label: ClassVar[str] = "nothing"
        kind: Literal["nothing"] = "nothing"
        weight: float = 0.5

        def rerank(self, distances: Any, nearest: Any, distances_of: Any) -> Any:
            return -distances

    assert read_kind("rerank", Nothing, {"kind": "nothing", "weight": 2}) == Nothing(weight=2)


@pytest.mark.parametrize(
    ("key", "label", "message"),
    [
        ("direct", "mine", r"Named\.key must be letters, .* none of direct, tlift, .* got 'direct'"),
        ("verification", "mine", "got 'verification'"),
        ("marked", "mine", "got 'marked'"),
        ("a/b", "mine", "got 'a/b'"),
        ("mine", "lifted", r"Named\.label must be a text other than .* got 'lifted'"),
    ],
)
def test_reranker_whose_names_are_taken_or_are_no_file_names_is_refused(key: str, label: str, message: str) -> None:
    @register("rerank", "named")
    class Named(RerankSettings):
        kind: Literal["named"] = "named"

        def rerank(self, distances: Any, nearest: Any, distances_of: Any) -> Any:
            return -distances

    Named.key = key
    Named.label = label
    with pytest.raises(InputError, match=message):
        read_kind("rerank", Named, {"kind": "named"})


@pytest.mark.parametrize(
    ("group", "base", "missing"),
    [
        ("loss", LossSettings, "build"),
        ("loss", PairLoss, "loss"),
        ("sampler", SamplerSettings, "batches"),
        ("rerank", RerankSettings, "key, label, rerank"),
    ],
)
def test_kind_that_does_not_define_what_its_base_asks_for_is_refused(
    group: Group, base: type[KindSettings], missing: str
) -> None:
    unfinished = type("Unfinished", (base,), {"__annotations__": {"kind": str}, "__module__": __name__})
    register(group, "unfinished")(unfinished)
    with pytest.raises(InputError, match=f"{group} 'unfinished': Unfinished must define {missing}$"):
        read_kind(group, base, {"kind": "unfinished"})


def test_kind_that_derives_from_no_base_is_refused() -> None:
    register("loss", "function")(abs)
    with pytest.raises(InputError, match="loss 'function' must be a class that derives from LossSettings"):
        read_kind("loss", LossSettings, {"kind": "function"})  # type: ignore[type-abstract]


def test_page_names_files_that_exist_and_snippets_that_run(tmp_path: Path) -> None:
    page = (PROJECT / "docs/extending.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:qaconv|tests|examples|flows|docs)/[\w./]+)`", page)
    assert paths
    assert [path for path in paths if "NAME" not in path and not (PROJECT / path).exists()] == []
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(snippets) == 6
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"docs/extending.md, snippet {number + 1}", "exec"), {"__name__": f"snippet{number}"})

    for folder, name, colour in (("wanted", "person7-camera0", "red"), ("seen", "person7-camera1", "blue")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 8), colour).save(tmp_path / folder / f"{name}.png")
    assert read_dataset("shop", tmp_path).frame[["pid", "camid"]].to_numpy().tolist() == [[7, 0], [7, 1]]

    method = make_method(loss={"kind": "hinge", "margin": 2}, sampler={"kind": "neighbouring_labels"})
    recipe = RECIPE.model_copy(update={"epochs": 2, "lr_drop_epoch": 1, "identities_per_batch": 3})
    assert len(run(draw_people(tmp_path / "people"), tmp_path, recipe, method)[1]) == 2

    config = BackboneConfig(name="patches", last_layer="layer3", neck_channels="none", weights="none")
    assert build_encoder(config).map_size(64, 32) == (4, 2)

    crowding = read_kind("rerank", RerankSettings, {"kind": "crowding"})  # type: ignore[type-abstract]
    near = Neighbourhoods(np.zeros((3, 2), np.int64), np.array([[0, 1], [0, 0.2], [0, 1.0]]), np.ones(3))
    scores = crowding.rerank(np.array([[0.5, 0.5]]), near, None)[:]
    assert scores[0, 0] < scores[0, 1]  # the first is near to another image
