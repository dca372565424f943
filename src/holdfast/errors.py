"""An error as a user is told it: in one line, and a file that cannot be written as the folder that does not let it.

    one_line(PermissionError(13, "Permission denied", "runs/mine/arms/ARM/lock"))
    "the folder runs/mine/arms/ARM cannot be written to: Permission denied"
"""

from __future__ import annotations

import errno
import os

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)


def one_line(error: Exception) -> str:
    """What `error` says, in one line."""
    if isinstance(error, OSError) and isinstance(error.filename, str) and (told := _of_folder(error)):
        return told
    return " ".join(str(error).split())


def _of_folder(error: OSError) -> str | None:
    """What is wrong with the folder of the file that `error` is about; None where that is not the matter."""
    path = error.filename
    folder = os.path.dirname(path) or "."
    if error.errno in _NO_FOLDER:
        file = _file_in(path)
        return f"the folder {file} cannot be written to: it is a file" if file else None
    if error.errno not in _DENIED or not os.access(folder, os.X_OK):
        return None
    if os.path.exists(path) and not os.access(path, os.R_OK):  # then reading may have been the matter
        return None
    if not os.access(folder, os.W_OK):
        return f"the folder {folder} cannot be written to: {error.strerror}"
    return f"{path} cannot be written to: {error.strerror}" if os.path.isfile(path) else None


def _file_in(path: str) -> str | None:
    """The file that stands on this path in the place of a folder."""
    while path and not os.path.lexists(path):
        path = os.path.dirname(path)
    return path if os.path.isfile(path) else None
