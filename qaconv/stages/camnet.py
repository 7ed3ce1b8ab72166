"""One site's settings go in; its images come out, in Market-1501's folders."""

import os

from qaconv.camnet.render import render_site
from qaconv.config import Params
from qaconv.stages.places import RAW


def camnet(params: Params, site: str) -> None:
    """Renders a site of the embedded camera network into data/raw/<site>."""
    render_site(params.site(site), RAW / site, processes=os.cpu_count() or 1)
