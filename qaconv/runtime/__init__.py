"""What runs without torch: decoding and resizing of images, and a registered version's graphs at work.

A registered version carries this package with it; everything imported here is in `qaconv.registry.packaging.SHIPPED`.
"""
