"""Engines that match blocks of feature maps on a device of torch: Triton and torch's own products."""
