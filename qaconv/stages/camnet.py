"""One site's settings go in; its images come out, in Market-1501's folders."""

import logging
import os

from qaconv.camnet.difficulty import mean_colour_rank1
from qaconv.camnet.render import render_site
from qaconv.config import Params
from qaconv.stages.places import RAW

log = logging.getLogger(__name__)


def camnet(params: Params, site: str) -> None:
    """Renders a site of the embedded camera network into data/raw/<site>, and says how easy it is without learning."""
    folder = RAW / site
    render_site(params.site(site), folder, processes=os.cpu_count() or 1)
    log.info("%s: nearest neighbour on mean colour has rank-1 %.1f %%", site, 100 * mean_colour_rank1(folder))
