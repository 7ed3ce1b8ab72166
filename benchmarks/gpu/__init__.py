"""Check and measure everything that runs on a GPU: `python -m benchmarks.gpu`."""
