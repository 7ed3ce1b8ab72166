"""What people look at: a model's figures and examples go in; one page that needs no other file comes out."""

from qaconv.report.content import Report
from qaconv.report.page import Run, add_run, render_page

__all__ = ["Report", "Run", "add_run", "render_page"]
