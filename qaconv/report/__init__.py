"""Draw a model's metrics and examples as one HTML page that needs no other file."""

from qaconv.report.content import Report
from qaconv.report.page import Run, add_run, render_page

__all__ = ["Report", "Run", "add_run", "render_page"]
