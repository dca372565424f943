"""One process at a time: a lock file that the system frees when its process is gone, kill -9 included.

    handle = acquire(Path("runs/mine/arms/ARM/lock"))   ...   os.close(handle)

This is POSIX's flock, so Holdfast runs on Linux and macOS. Lock files are never deleted: a second process could lock a
new file of that name while the old one is held. Python closes the handle in programs it starts, but a bare fork that
outlives its parent keeps the lock.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def acquire(path: Path, *, wait: bool = False) -> int:
    """Lock the file `path`, which is made if it is not there. Returns a handle to it; closing that frees the lock.

    Without `wait`, raises BlockingIOError where another process holds the lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(handle)
        raise
    return handle
