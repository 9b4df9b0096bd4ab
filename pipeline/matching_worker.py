"""Runs patterns where they can be stopped: the script of a process of its own, which ``matching.py`` starts and ends.

It is started with nothing but the standard library in reach, so that it is there in milliseconds and takes ten megabytes.
Requests come on standard input and answers leave on standard output, both as a length and ``marshal``'s bytes.
"""

from __future__ import annotations

import faulthandler
import marshal
import os
import re
import signal
import sys
import time

TYPE_CHECKING = False  # Importing ``typing`` or ``pathlib`` would take longer than all else.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

Found = str | bool | tuple[str | None, ...] | None
"""As in ``transform/extraction.py``, which cannot be imported here: text or None (a tuple of them for several groups), False:
no match, True: no time left."""

Work = tuple[str, int | tuple[int, ...], list[str], float, float]
"""Pattern, group or groups, values, seconds for a value, seconds for all of them."""


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message."""
    body = marshal.dumps(message)
    stream.write(len(body).to_bytes(8, "little") + body)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message; raises EOFError where the other side is gone."""
    head = stream.read(8)
    body = stream.read(int.from_bytes(head, "little")) if len(head) == 8 else b""
    if not body:
        raise EOFError
    return marshal.loads(body)  # noqa: S302  the other side is this package


class _Over(Exception):  # noqa: N818  not an error
    """The time of one value is over."""


class _Timer:
    """Ends a match from within: ``re`` looks for signals every few thousand steps. Main thread of a POSIX system only."""

    def __init__(self) -> None:
        self._armed = False
        signal.signal(signal.SIGALRM, self._strike)
        # The thread that started this process may have blocked it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})

    def _strike(self, *_: object) -> None:
        if self._armed:  # Else the match has ended in the very moment.
            raise _Over

    def __call__(self, match: Callable[[str], Found], value: str, seconds: float) -> Found:
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return match(value)
        except _Over:
            return True
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def rest(self) -> None:
        """Do nothing: it runs for one value at a time."""


class _Ending:
    """Ends the whole process when a match takes too long, which tells as much: the only way on Windows."""

    def __init__(self) -> None:
        self._nowhere = os.open(os.devnull, os.O_WRONLY)
        self._since = self._seconds = 0.0

    def __call__(self, match: Callable[[str], Found], value: str, seconds: float) -> Found:
        now = time.monotonic()
        # To wind it up costs a thread: a value has three quarters of its time at least, and the next round to come.
        if seconds != self._seconds or now - self._since > seconds / 4:
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._nowhere)
            self._since, self._seconds = now, seconds
        return match(value)

    def rest(self) -> None:
        """Wait without end for more work."""
        faulthandler.cancel_dump_traceback_later()
        self._seconds = 0.0


def _matcher(pattern: str, group: int | tuple[int, ...]) -> Callable[[str], Found]:
    match = re.compile(pattern).match

    def found(value: str) -> Found:
        try:
            result = match(value)
        except MemoryError:
            return True
        if result is None:
            return False
        return (
            tuple(result.group(each) for each in group) if isinstance(group, tuple) else result.group(group)
        )

    return found


def _answers(work: Work, timed: _Timer | _Ending) -> Iterator[Found]:
    """Match each value within its seconds, and all of them within the budget."""
    pattern, group, values, seconds, budget = work
    match = _matcher(pattern, group)
    end = time.monotonic() + budget
    for value in values:
        left = end - time.monotonic()
        yield timed(match, value, min(seconds, left)) if left > 0 else True
    timed.rest()


def main() -> None:
    """Answer requests until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Who asked decides what an interrupt means.
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    timed = _Timer() if sys.argv[1:] == ["timer"] else _Ending()
    send(sink, True)
    while True:
        try:
            answers = _answers(receive(source), timed)
        except EOFError:
            return
        if isinstance(timed, _Timer):
            send(sink, list(answers))
        else:
            for answer in answers:
                send(sink, [answer])


if __name__ == "__main__":
    main()
