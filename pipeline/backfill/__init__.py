"""Archives of bookings larger than memory, or a server's bookings of many days, to Parquet by month.

    summary = backfill("archive/*.ndjson.gz", "out", "mwl_config.json")

The command ``calpendo-pipeline backfill`` is a shell over this. Importing it loads no polars.
"""

from __future__ import annotations

from pipeline.backfill.coordinator import backfill
from pipeline.backfill.plan import ServerRange
from pipeline.backfill.summary import BackfillSummary, Progress, ProgressCallback

__all__ = ["BackfillSummary", "Progress", "ProgressCallback", "ServerRange", "backfill"]
