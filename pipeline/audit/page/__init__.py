"""The audit as one page for a browser: nothing is loaded when it opens, and no name stands in it unrevealed."""

from __future__ import annotations

from pipeline.audit.page.charts import offsets, pictures
from pipeline.audit.page.html import render_page

__all__ = ["offsets", "pictures", "render_page"]
