"""Engines that match two blocks of feature maps: a compiled kernel, PyTorch and Triton."""
