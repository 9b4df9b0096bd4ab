"""Pylantir's sync loop, one cycle at a time, in this process: its real upsert, query, filter and answers.

``cycle`` is the body of the loop in ``pylantir/cli/run.py`` (0.4.6), with its commit, rollback and cleanup; ``find``
is ``mwl_server.handle_mwl_find`` with the encoding that pynetdicom does behind it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode
from sqlalchemy import create_engine, event, or_
from sqlalchemy.orm import sessionmaker

from tests.support.scanner import Line, line_of


class LostAnswerError(AssertionError):
    """A response could not be encoded: a scanner loses it and everything behind it."""


def load_pylantir(directory: Path) -> None:
    """Import the modules that bind a database at import, with a harmless one; each host makes its own engine."""
    kept = os.environ.get("DB_PATH")
    os.environ["DB_PATH"] = str(directory / "unused.db")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pylantir.mwl_server
            import pylantir.worklist_sync  # noqa: F401
    finally:
        if kept is None:
            del os.environ["DB_PATH"]
        else:
            os.environ["DB_PATH"] = kept


class WorklistHost:
    """A database of its own, and as many sources as are given to its cycles."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from pylantir.models import Base

        self.database = directory / "worklist.db"
        monkeypatch.setenv("DB_PATH", str(self.database))
        self.engine = create_engine(f"sqlite:///{self.database}")
        Base.metadata.create_all(self.engine)
        self.session = sessionmaker(bind=self.engine)
        self.filters: list[Any] = []
        self.fail_commits = 0
        self.database_errors: list[Exception] = []
        event.listen(self.engine, "commit", self._maybe_fail)

    def close(self) -> None:
        """Close the database."""
        self.engine.dispose()

    def _maybe_fail(self, _connection: Any) -> None:
        if self.fail_commits:
            self.fail_commits -= 1
            raise RuntimeError("the disk is full")

    def cycle(
        self,
        plugin: Any,
        source: Mapping[str, Any],
        *,
        interval: float = 360.0,
    ) -> int:
        """One pass of the loop; returns how many records came. A failed fetch raises, after the cleanup."""
        from pylantir.worklist_sync import upsert_worklist_record

        name = source.get("name", "unknown")
        settings = source.get("config", {})
        entries = None
        session = None
        try:
            entries = plugin.fetch_entries(field_mapping=source.get("field_mapping", {}), interval=interval)
            count = len(entries)
            if entries:
                session = self.session()
                try:
                    for record in entries:
                        if not record.get("patient_id"):
                            continue
                        upsert_worklist_record(
                            session,
                            record,
                            source_name=name,
                            protocol=settings.get("protocol", {}),
                            site_id=settings.get("site") or settings.get("site_id"),
                            match_candidates=plugin.get_record_match_candidates(record, name),
                            record_preparer=plugin.prepare_record_for_upsert,
                        )
                    session.commit()
                except Exception as error:
                    session.rollback()
                    self.database_errors.append(error)
            return count
        finally:
            if session is not None:
                session.expunge_all()
                session.close()
            if entries is not None:
                entries.clear()
            plugin.cleanup()

    def use_filter(self, plugin: Any, source: Mapping[str, Any]) -> None:
        """Take the filter of a plugin that was never validated, as the host does when it starts."""
        found = plugin.get_mwl_query_filter(
            source.get("name", "unknown"), config=dict(source.get("config", {}))
        )
        if found is not None:
            self.filters.append(found)

    def rows(self) -> list[dict[str, Any]]:
        """The table as it is, in the order of insertion."""
        from pylantir.models import WorklistItem

        with self.session() as session:
            items = session.query(WorklistItem).order_by(WorklistItem.id).all()
            return [{key: value for key, value in vars(item).items() if key[0] != "_"} for item in items]

    def row(self, booking_id: int) -> dict[str, Any]:
        """The one row of a booking."""
        (found,) = (row for row in self.rows() if row["source_record_id"] == str(booking_id))
        return found

    def mpps(self, patient_id: str, status: str) -> None:
        """Set a status as Pylantir's MPPS handlers do: the first row of the subject."""
        from pylantir.models import WorklistItem

        with self.session() as session:
            entry = session.query(WorklistItem).filter_by(patient_id=patient_id).first()
            assert entry is not None
            entry.performed_procedure_step_status = status
            session.commit()

    def find(self) -> list[Line]:
        """Answer a C-FIND; raises LostAnswerError where the real one breaks."""
        from pylantir.models import WorklistItem
        from pylantir.mwl_server import row_to_mwl_dataset

        with self.session() as session:
            status = WorklistItem.performed_procedure_step_status
            query = session.query(WorklistItem).filter(
                or_(status == "SCHEDULED", status == "IN_PROGRESS", status == "DISCONTINUED")
            )
            for query_filter in self.filters:
                query = query_filter(query)
            items = query.order_by(WorklistItem.id)
            return [line_of(_over_the_wire(item, row_to_mwl_dataset)) for item in items]

    @property
    def shown(self) -> list[str]:
        """The subjects on the list, sorted."""
        return sorted(line.patient_id for line in self.find())


def _over_the_wire(item: Any, to_dataset: Any) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            encoded = encode(to_dataset(item), True, True)
        except (ValueError, TypeError, AttributeError) as error:
            raise LostAnswerError(f"{type(error).__name__} while the answer is made") from error
        if encoded is None:
            raise LostAnswerError("the answer cannot be encoded")
        return decode(BytesIO(encoded), True, True)
