"""Something again and again, one at a time, until SIGTERM or Ctrl-C says that it is enough."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

_LOOK_AGAIN = 0.05


def until_stopped(
    task: Callable[[threading.Event], None], interval: float, interrupt: Callable[[], None]
) -> None:
    """Call ``task`` so often until a signal comes; never twice at once.

    A signal ends a pause at once. A task that is running is interrupted, as far as it can be, and finishes in order.

    Args:
        task: is given the event that says that an end was asked for.
        interval: seconds from one beginning to the next; a task that takes longer is followed by the next at once.
        interrupt: cuts what a running task waits for; called from another thread, more than once.
    """
    stopping, ended = threading.Event(), threading.Event()

    def cut() -> None:
        while not ended.is_set():
            interrupt()
            ended.wait(_LOOK_AGAIN)

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not stopping.is_set():
            stopping.set()
            threading.Thread(target=cut, name="calpendo-stop", daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not stopping.is_set():
            begun = time.monotonic()
            task(stopping)
            stopping.wait(max(interval - (time.monotonic() - begun), 0.0))
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)
