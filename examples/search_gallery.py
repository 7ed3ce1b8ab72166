"""Search a gallery from Python: run `python examples/search_gallery.py [FOLDER OF A TRAINED NETWORK]`."""

import sys
from pathlib import Path

import torch

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.matching import search
from qaconv.models.checkpoint import Architecture, build_network, load_network


def main(folder: str = "") -> None:
    if folder:  # such as artifacts/model/qaconv
        network, _ = load_network(Path(folder))
    else:  # initial weights, drawn from a seed
        backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=32, weights="none")
        size = ImageConfig(height=64, width=32)
        network = build_network(Architecture(backbone=backbone, image=size, pooled=False), seed=1)
    size = network.architecture.image
    generator = torch.Generator().manual_seed(0)
    gallery_images = torch.rand(20, 3, size.height, size.width, generator=generator)  # RGB in [0, 1]
    query_images = (gallery_images[[3, 11]] * 0.9).clamp(0, 1)  # the same two crops, darker
    with torch.inference_mode():
        encoder, head = network.encoder.eval(), network.head.eval()
        found = search(encoder(query_images), encoder(gallery_images), head, top_k=3)
    for query, (scores, indices) in enumerate(zip(found.scores, found.indices, strict=True)):
        best = ", ".join(f"image {index} ({score:.2f})" for index, score in zip(indices, scores, strict=True))
        print(f"query {query}: {best}")


if __name__ == "__main__":
    main(*sys.argv[1:])
