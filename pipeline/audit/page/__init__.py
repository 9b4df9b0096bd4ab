"""The audit as one page for a browser: nothing is loaded when it opens, and no name stands in it unrevealed."""

from __future__ import annotations

from pipeline.audit.page.charts import picture, pictures
from pipeline.audit.page.clock_chart import offsets
from pipeline.audit.page.html import render_page
from pipeline.audit.page.tables import table

__all__ = ["offsets", "picture", "pictures", "render_page", "table"]
