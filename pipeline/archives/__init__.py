"""One reader of booking files for every command: what a file is, and its rows in bounded memory.

``recognise`` says by a file's first bytes what it is, or refuses it in one sentence; ``BookingFile`` reads it from
beginning to end, ``read_segments`` in parts that can be given to several workers; ``payloads_of`` takes a path, a frame or a
list from a program. Importing it loads no polars.
"""

from __future__ import annotations

from pipeline.archives.payloads import Table, is_bookings_frame, payloads_of
from pipeline.archives.recognise import ENTRY_KEYS, Archive, bookings_only, held, reading, recognise
from pipeline.archives.segments import Block, BookingFile, Segment, read_segments, segment_count

__all__ = [
    "ENTRY_KEYS",
    "Archive",
    "Block",
    "BookingFile",
    "Segment",
    "Table",
    "bookings_only",
    "held",
    "is_bookings_frame",
    "payloads_of",
    "read_segments",
    "reading",
    "recognise",
    "segment_count",
]
