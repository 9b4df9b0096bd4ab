"""The same jobs on a Dask cluster: paths and counts travel through the scheduler, bookings never do.

Every worker must see the archives and the output directory under the same paths (a shared file system, as research
clusters have) and have this package installed. A job whose worker dies is given to another one; jobs commit their
files by one rename, so that work done twice is kept once.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.backfill.workers import POLL_SECONDS, Done, Job, perform
from pipeline.errors import PluginConfigError, PluginStateError
from pipeline.version import __version__
from pipeline.wording import install

CONNECT_SECONDS = 20
RETRIES = 1


class Cluster:
    """The workers of a running Dask cluster at ``address`` (``tcp://host:port`` or ``tls://host:port``).

    ``count`` is the number of the cluster's threads when the connection was made. Encryption and certificates are
    taken from Dask's own configuration.
    """

    def __init__(self, address: str) -> None:
        if "://" not in address:
            raise PluginConfigError(f"--cluster: {address!r} is no address; write it as tcp://host:8786")
        try:
            self._client = _distributed().Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise PluginConfigError(
                f"--cluster: no Dask scheduler answers at {address} ({type(error).__name__}); is it running there?"
            ) from error
        try:
            self.count = sum(self._threads().values())
        except BaseException:
            self.close()
            raise

    def _threads(self) -> dict[str, int]:
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return {name: int(worker["nthreads"]) for name, worker in workers.items()}

    def check(self, output: Path, paths: Iterable[str]) -> None:
        """Ask every worker whether it sees the archives and the output, and has this version of the package.

        Raises ``PluginConfigError`` naming the workers that do not, ``PluginStateError`` where there are none.
        """
        if not self.count:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            self.count = sum(self._threads().values())
        token = output / f".tmp-{secrets.token_hex(6)}-seen"
        token.touch(mode=0o600)
        try:
            answers: dict[str, str] = self._client.run(
                _what_is_missing, str(token), tuple(paths), __version__
            )
        finally:
            token.unlink(missing_ok=True)
        faults = [f"worker {name}: {missing}" for name, missing in sorted(answers.items()) if missing]
        if faults:
            raise PluginConfigError("--cluster: " + "; ".join(faults), faults)

    def run(self, jobs: Iterable[Job], tick: Callable[[], None]) -> Iterator[Done]:
        """See ``local.Workers.run``. A job is tried on other workers when its own one dies.

        Raises what the job raised, or ``PluginStateError`` where a job ended several workers or the scheduler is gone.
        """
        distributed = _distributed()
        waiting = iter(jobs)
        running: dict[Any, Job] = {}
        try:
            while True:
                room = max(4 * self.count - len(running), 0)
                for job in islice(waiting, room):
                    running[self._client.submit(perform, *job, pure=False, retries=RETRIES)] = job
                if not running:
                    return
                with contextlib.suppress(TimeoutError), self._client.as_current():
                    distributed.wait(list(running), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
                for future in [future for future in running if future.done()]:
                    yield running.pop(future), future.result()
                tick()
        except (distributed.CancelledError, distributed.scheduler.KilledWorker) as error:
            raise PluginStateError(
                "the cluster lost its scheduler, or one part of the backfill ended several workers, perhaps for want "
                "of memory; start the same command again and it goes on where it stopped"
            ) from error
        finally:
            self._client.cancel(list(running))

    def close(self) -> None:
        """Disconnect; the cluster stays."""
        self._client.close()


def _distributed() -> Any:
    """Import Dask's scheduler library, which is an extra and only partly typed."""
    try:
        return import_module("distributed")
    except ImportError as error:
        raise PluginConfigError(
            f"--cluster needs the extra 'distributed'; write {install('distributed')}"
        ) from error


def _what_is_missing(token: str, paths: tuple[str, ...], version: str) -> str:
    """Run on a worker: say what it lacks, or nothing."""
    from pipeline.version import __version__

    if version != __version__:
        return f"has calpendo-pipeline {__version__}, this is {version}"
    unseen = [path for path in (token, *paths) if not Path(path).exists()]
    if unseen:
        return f"does not see {Path(unseen[0]).parent}; archives and output must lie on a shared file system"
    return ""
