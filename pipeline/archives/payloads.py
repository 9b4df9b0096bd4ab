"""What a program hands over in the place of payloads: a list, a file's path, a frame; all else is one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any, Protocol

from pipeline.archives.recognise import bookings_only, held, recognise
from pipeline.archives.segments import BookingFile
from pipeline.archives.text_rows import PAYLOAD
from pipeline.errors import PluginConfigError

_OF_READ_BOOKINGS = frozenset({"row", "booking_id", "fault", "generation", "formatted_name"})
_WRITE = (
    "write a list of bookings (objects, or JSON text), the path of a file of bookings, or a frame with a column "
    "'payload' or with a booking's own columns (id, title, formattedName, properties.resource.formattedName, ...)"
)


class Table(Protocol):
    """A frame or series of pandas, pyarrow, DuckDB or another library that speaks Arrow."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the rows as Arrow's stream."""


def payloads_of(given: Any) -> Iterable[Any]:
    """Return the payloads that a caller means.

    Args:
        given: any iterable of payloads, which is returned as it is; the path of a file of bookings, which is read
            while one iterates; or a frame of polars, pandas or another library that speaks Arrow (``tables``).

    Raises:
        PluginConfigError: it is none of these, as a single booking is not, or the frame or file holds no bookings.
    """
    if isinstance(given, (list, tuple, BookingFile)):
        return given
    if isinstance(given, (str, PathLike)) and not str(given).lstrip().startswith(("{", "[")):
        return BookingFile(bookings_only(recognise(fspath(given))))
    if isinstance(given, (str, bytes, bytearray, memoryview, Mapping)):
        raise PluginConfigError(f"payloads: got a single {_single(given)}; put it into a list, or {_WRITE}")
    if _is_table(given):
        return _of_table(given)
    if not isinstance(given, Iterable):
        raise PluginConfigError(f"payloads: got a {type(given).__name__}; {_WRITE}")
    return given


def is_bookings_frame(given: Any) -> bool:
    """Tell whether something is a frame that ``read_bookings`` made, by its columns."""
    if not _is_polars(given):
        return False
    return set(given.collect_schema()) >= _OF_READ_BOOKINGS


def _single(given: object) -> str:
    return "object" if isinstance(given, Mapping) else "JSON text"


def _is_table(given: object) -> bool:
    # A polars frame first: asking a LazyFrame for its columns is warned of.
    return any(hasattr(given, sign) for sign in ("collect_schema", "__arrow_c_stream__", "columns"))


def _is_polars(given: object) -> bool:
    return type(given).__module__.partition(".")[0] == "polars" and hasattr(given, "collect_schema")


def _of_table(given: Any) -> list[Any]:
    from pipeline.archives.tables import UNREADABLE

    try:
        return _pandas_payloads(given) if _is_pandas(given) else _polars_payloads(given)
    except (*UNREADABLE, TypeError, ImportError, AttributeError) as error:
        failed = type(error).__name__
    # Raised out here: the messages of other libraries quote values.
    raise PluginConfigError(f"payloads: the {type(given).__name__} cannot be read ({failed}); {_WRITE}")


def _is_pandas(given: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "pandas" for kind in type(given).__mro__)


def _polars_payloads(given: Any) -> list[Any]:
    import polars as pl

    from pipeline.archives.tables import frame_payloads, payload_columns

    frame = given.lazy() if isinstance(given, (pl.DataFrame, pl.LazyFrame)) else _by_arrow(given).lazy()
    _refuse(tuple(frame.collect_schema()))
    return frame_payloads(payload_columns(frame, "payloads: the frame's").collect())


def _by_arrow(given: Any) -> Any:
    """Return another library's table, or its series of payloads, as a polars frame."""
    import polars as pl

    if isinstance(given, pl.Series) or not (hasattr(given, "columns") or hasattr(given, "column_names")):
        return pl.Series(PAYLOAD, given).to_frame()
    return pl.DataFrame(given)


def _pandas_payloads(given: Any) -> list[Any]:
    """Return the payloads of a pandas frame or series, which needs neither pyarrow nor pandas itself.

    A named index is a column like the others.
    """
    from pipeline.archives.tables import payload_cells, row_payload

    if not hasattr(given, "columns"):
        return payload_cells(given.astype(object).where(given.notna(), None))
    if any(name is not None for name in given.index.names):
        given = given.reset_index()
    names = list(given.columns)
    if len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        raise PluginConfigError(
            "payloads: the frame's columns must have names that are texts, each once, such as id and title"
        )
    _refuse(tuple(names))
    given = given.astype(object).where(given.notna(), None)
    if PAYLOAD in names:
        return payload_cells(given[PAYLOAD])
    return [
        row_payload(dict(zip(names, row, strict=True))) for row in given.itertuples(index=False, name=None)
    ]


def _refuse(columns: tuple[str, ...]) -> None:
    """Refuse a frame that holds something else than bookings; its columns are named, no value is."""
    if set(columns) >= _OF_READ_BOOKINGS:
        raise PluginConfigError(
            "payloads: the frame is one that read_bookings made; hand it to process_batch, transform_bookings or audit"
        )
    found = held([dict.fromkeys(columns)])
    if found in ("entries", "labels"):
        what = "worklist entries" if found == "entries" else "labels"
        raise PluginConfigError(f"payloads: the frame holds {what}, not bookings; {_WRITE}")
    if found != "bookings":
        named = ", ".join(columns[:8]) or "none"
        raise PluginConfigError(f"payloads: the frame holds no bookings (its columns: {named}); {_WRITE}")
