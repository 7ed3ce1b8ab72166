"""Run without torch: decode and resize images, match and quantise maps, and run a registered version's graphs.

A registered version carries this package with it; everything imported here is in `qaconv.registry.packaging.SHIPPED`.
"""
