"""An arm in a process of its own, so that torch, and whatever training leaves behind, live and die with it.

    python -m holdfast.launch.arm runs/NAME/arms/ARM
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path

from holdfast.config import Job, Launch, build
from holdfast.errors import one_line
from holdfast.study.folder import ArmFolder
from holdfast.study.progress import log_to
from holdfast.study.run import run
from holdfast.train.limits import Collapse
from holdfast.train.ranks import follow

COLLAPSED = 3
"""Exit status of an arm that ended in `Collapse`: it said why, and other arms are none the worse for it."""
FOLLOW = "follow"
"""The argument of an arm that ends when whoever started it does."""
log = logging.getLogger("holdfast.arm")


def main() -> int:
    """Run the arm whose folder is the first argument; the second, if there is one, is a `Job` in JSON. With a
    third, `FOLLOW`, it ends when its standard input does.

    A mistake of the user's ends in one line and exit status 2, as an arm does that another process is running; a policy
    that collapsed in one line and `COLLAPSED`, as does an environment that keeps raising.
    """
    folder = ArmFolder(Path(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the store is safe at any moment, so Ctrl-C needs no ceremony
    if FOLLOW in sys.argv[3:]:
        follow()
    try:
        with folder.locked():
            log_to(folder.log)
            arm = folder.arm()
            alone = Job(name=arm.study, runs=str(folder.study.path.parent), launch=Launch())
            try:
                run(arm, folder, build(json.loads(sys.argv[2])) if sys.argv[2:] else alone)
            except Collapse as error:
                folder.collapsed(error.lines)
                raise
    except (ValueError, OSError, Collapse) as error:
        log.debug("stopped", exc_info=True)  # to the file alone
        print(f"holdfast: error: {folder.path}: {one_line(error)}", file=sys.stderr)
        return COLLAPSED if isinstance(error, Collapse) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
