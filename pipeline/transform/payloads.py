"""Payloads as they came (objects or JSON text) -> one object each, with the fault where there is none.

Text is read by orjson, and what orjson refuses by the standard library, so that a payload means the same whether it
came as text or as an object that ``json.loads`` made of it: ``NaN``, ``1E400`` and half surrogate pairs are read, a
duplicate key takes its last value. orjson reads whole numbers above 64 bits as floats; ``exact`` reads such a payload
again where it matters.
"""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, cast

import orjson

from pipeline.transform import reasons

JsonObject = dict[str, Any]
Payload = JsonObject | str | bytes

_NOTHING: JsonObject = {}
_AT_ONCE = 500
_pause_lock = threading.Lock()
_pauses = 0
_resume = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """Keep Python's cycle collector still while hundreds of thousands of objects are made.

    None of them is part of a cycle, yet each new ten thousand would make the collector walk over all of them: more
    than half of the time of reading a large batch. Threads may overlap; the last one out switches it on again, if it
    was on before.
    """
    global _pauses, _resume
    with _pause_lock:
        if _pauses == 0:
            _resume = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _pause_lock:
            _pauses -= 1
            if _pauses == 0 and _resume:
                gc.enable()


def in_parts(payloads: Iterable[Payload]) -> Iterator[list[Payload]]:
    """Yield the payloads some hundreds at a time.

    Read column by column, their objects then stay within the processor's cache, which is two to three times as fast as
    one pass over all.
    """
    remaining = iter(payloads)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some


class Payloads:
    """A batch of payloads: ``objects`` (an empty one where a payload is unusable), ``properties``, ``faults``.

    ``faults`` maps the index of an unusable payload to its reason; all lists have one item a payload, in order.
    """

    def __init__(self, payloads: Iterable[object]) -> None:
        self.given: Sequence[object] = payloads if isinstance(payloads, (list, tuple)) else list(payloads)
        self.faults: dict[int, str] = {}
        self.objects: list[JsonObject] = self._read_all()
        self._set_properties()

    def __len__(self) -> int:
        """Count the payloads."""
        return len(self.given)

    def _read_all(self) -> list[JsonObject]:
        kinds = set(map(type, self.given))
        if kinds == {dict}:
            return list(cast("Sequence[JsonObject]", self.given))
        if kinds <= {str, bytes}:
            try:
                objects = list(map(orjson.loads, cast("Sequence[str | bytes]", self.given)))
            except orjson.JSONDecodeError:
                pass
            else:
                if set(map(type, objects)) <= {dict}:
                    return objects
        return [self._read(index, payload) for index, payload in enumerate(self.given)]

    def _read(self, index: int, payload: object) -> JsonObject:
        if isinstance(payload, (str, bytes, bytearray, memoryview)):
            try:
                payload = _parse(payload)
            except (ValueError, RecursionError):
                self.faults[index] = reasons.PAYLOAD_NOT_JSON
                return _NOTHING
        if isinstance(payload, dict):
            return payload
        self.faults[index] = reasons.PAYLOAD_NOT_OBJECT
        return _NOTHING

    def _set_properties(self) -> None:
        found = [item.get("properties") for item in self.objects]
        if set(map(type, found)) != {dict}:
            found = [item if isinstance(item, dict) else _NOTHING for item in found]
        self.properties = cast("list[JsonObject]", found)
        self.__dict__.pop("keys", None)
        self.__dict__.pop("property_keys", None)

    @cached_property
    def keys(self) -> frozenset[object]:
        """Every key that stands at the top level of any payload."""
        return frozenset().union(*self.objects)

    @cached_property
    def property_keys(self) -> frozenset[object]:
        """Every key that stands under ``properties`` in any payload."""
        return frozenset().union(*self.properties)

    def exact(self, rows: Iterable[int]) -> bool:
        """Read these rows' text again with whole numbers kept whole; False where nothing was to be read again."""
        changed = False
        for index in rows:
            payload = self.given[index]
            if isinstance(payload, (str, bytes, bytearray)):
                try:
                    again = json.loads(payload)
                except (ValueError, RecursionError):
                    continue
                if isinstance(again, dict):
                    self.objects[index] = again
                    changed = True
        if changed:
            self._set_properties()
        return changed


def payload_text(payload: object) -> str:
    """Return a payload as JSON text that any reader of UTF-8 takes, for the quarantine; never raises.

    Text is given back as it came, but for what UTF-8 cannot carry; an object is written out.
    """
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload).decode("utf-8", "backslashreplace")
    if isinstance(payload, str):
        return payload.encode("utf-8", "backslashreplace").decode("utf-8")
    try:
        return orjson.dumps(payload).decode()
    except (orjson.JSONEncodeError, RecursionError):
        pass
    try:
        return json.dumps(payload, default=_type_name, skipkeys=True)
    except (ValueError, TypeError, RecursionError):
        return json.dumps({"unwritable": _type_name(payload)})


def _parse(payload: str | bytes | bytearray | memoryview) -> object:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return json.loads(bytes(payload) if isinstance(payload, memoryview) else payload)


def _type_name(value: object) -> str:
    return f"<{type(value).__name__}>"
