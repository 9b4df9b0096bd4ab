"""A scanner's side of the wire: C-ECHO, C-FIND on the worklist, MPPS N-CREATE and N-SET, by pynetdicom."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, Association
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    Verification,
)

PENDING = 0xFF00


@dataclass(frozen=True)
class Line:
    """One line of the console's list; every value is the wire's bytes as ASCII text, padding taken away."""

    patient_id: str
    patient_name: str
    study_uid: str
    date: str
    time: str
    modality: str
    status: str
    description: str
    sex: str
    birth_date: str


@dataclass(frozen=True)
class WorklistAnswer:
    """The lines of a C-FIND and its last status; 0x0000 says that the list is whole."""

    lines: tuple[Line, ...]
    status: int | None

    @property
    def subjects(self) -> list[str]:
        """The patient ids, sorted."""
        return sorted(line.patient_id for line in self.lines)

    def line(self, patient_id: str) -> Line:
        """The one line of a subject."""
        (found,) = (line for line in self.lines if line.patient_id == patient_id)
        return found


class Scanner:
    """An imaging device that knows one worklist server."""

    def __init__(self, port: int, server: str = "WORKLIST") -> None:
        self.port = port
        self.server = server

    @contextmanager
    def association(self, context: str) -> Iterator[Association | None]:
        """Open an association for one service; None where it is refused."""
        ae = AE(ae_title="MRI_SCANNER")
        ae.add_requested_context(context)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        association = ae.associate("127.0.0.1", self.port, ae_title=self.server)
        try:
            yield association if association.is_established else None
        finally:
            if association.is_established:
                association.release()

    def echo(self) -> bool:
        """Tell whether the server answers a C-ECHO."""
        # pynetdicom leaves the socket of a refused connection open.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return self._echo()
        return False

    def _echo(self) -> bool:
        with self.association(Verification) as association:
            return association is not None and association.send_c_echo().get("Status") == 0x0000

    def find(self) -> WorklistAnswer:
        """Ask for the whole list, as a console does when it is refreshed."""
        question = Dataset()
        question.PatientName = ""
        question.PatientID = ""
        question.StudyInstanceUID = ""
        step = Dataset()
        step.Modality = ""
        step.ScheduledProcedureStepStartDate = ""
        step.ScheduledProcedureStepStartTime = ""
        question.ScheduledProcedureStepSequence = [step]
        lines: list[Line] = []
        last: int | None = None
        with self.association(ModalityWorklistInformationFind) as association:
            assert association is not None, "the worklist server refused the association"
            # Values that break a VR's rule only warn in pydicom; here they are judged by the tests.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for status, answer in association.send_c_find(question, ModalityWorklistInformationFind):
                    last = status.get("Status")
                    if last == PENDING:
                        assert answer is not None, "a response that cannot be decoded"
                        lines.append(_line(answer))
        return WorklistAnswer(tuple(lines), last)

    def begin(self, patient_id: str, patient_name: str) -> str:
        """Send the N-CREATE of a begun step; returns its instance UID."""
        step = Dataset()
        step.PatientID = patient_id
        step.PatientName = patient_name
        step.PerformedProcedureStepStatus = "IN PROGRESS"
        instance = generate_uid()
        with self.association(ModalityPerformedProcedureStep) as association:
            assert association is not None
            status, _ = association.send_n_create(step, ModalityPerformedProcedureStep, instance)
        assert status.Status == 0x0000
        return str(instance)

    def end(self, instance: str, status: str = "COMPLETED") -> None:
        """Send the N-SET that ends a step: COMPLETED or DISCONTINUED."""
        step = Dataset()
        step.PerformedProcedureStepStatus = status
        with self.association(ModalityPerformedProcedureStep) as association:
            assert association is not None
            answer, _ = association.send_n_set(step, ModalityPerformedProcedureStep, instance)
        assert answer.Status == 0x0000


def line_of(answer: Dataset) -> Line:
    """Read one response as a console shows it, without a decoder that mends it."""
    (step,) = answer.ScheduledProcedureStepSequence
    return Line(
        patient_id=_text(answer, "PatientID"),
        patient_name=_text(answer, "PatientName"),
        study_uid=_text(answer, "StudyInstanceUID"),
        date=_text(step, "ScheduledProcedureStepStartDate"),
        time=_text(step, "ScheduledProcedureStepStartTime"),
        modality=_text(step, "Modality"),
        status=_text(step, "ScheduledProcedureStepStatus"),
        description=_text(answer, "StudyDescription"),
        sex=_text(answer, "PatientSex"),
        birth_date=_text(answer, "PatientBirthDate"),
    )


_line = line_of


def _text(dataset: Dataset, keyword: str) -> str:
    element = dataset.get_item(keyword)
    value = element.value if element is not None else b""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return text.rstrip(" \0")
