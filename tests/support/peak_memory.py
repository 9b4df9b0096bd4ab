"""The most memory this process has held: what a child process prints of itself at its end."""

from __future__ import annotations

import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def own_peak() -> int:
    """Return the peak of this process in megabytes, of this program alone.

    Linux hands ``ru_maxrss`` on through fork and exec: a child of a large test process would answer with its parent's.
    ``VmHWM`` belongs to the memory of the running program; where there is none (macOS), ``ru_maxrss`` has to do.
    """
    if STATUS.exists():
        return next(
            int(line.split()[1]) // 1024
            for line in STATUS.read_text().splitlines()
            if line.startswith("VmHWM:")
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20)
