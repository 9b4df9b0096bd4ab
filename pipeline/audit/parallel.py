"""Chunks counted by several processes: reading JSON holds Python's lock, so threads would wait for each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from pipeline.errors import PluginError
from pipeline.processes import fresh_processes

if TYPE_CHECKING:
    from pipeline.archives import Block
    from pipeline.audit.tally import Frames
    from pipeline.audit.task import Task


def counted_by_processes(task: Task, chunks: Iterable[Block], workers: int) -> Iterator[tuple[int, Frames]]:
    """Yield the number of bookings and the frames of each chunk, in the chunks' order.

    At most two chunks a worker are held. ``PluginError`` where a process is killed.
    """
    waiting: deque[tuple[int, Future[Frames]]] = deque()
    pool = fresh_processes(workers)
    try:
        for chunk in chunks:
            if len(waiting) > workers:
                size, future = waiting.popleft()
                yield size, future.result()
            waiting.append((len(chunk.payloads), pool.submit(_count, task, chunk)))
        for size, future in waiting:
            yield size, future.result()
    except BrokenProcessPool as error:
        raise PluginError(
            "a process of the audit was killed, perhaps for want of memory; try one worker"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _count(task: Task, block: Block) -> Frames:
    from pipeline.audit.chunk import count_block

    return count_block(task, block)
