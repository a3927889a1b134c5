"""What the command line says of errors of the system."""

from __future__ import annotations

import errno


def of_system(error: OSError) -> str:
    """What the system said, beginning with the file; of our own errors their message."""
    if error.errno is None or error.strerror is None:
        return str(error)
    advice = {
        errno.EACCES: "; give the right to it, or choose another path",
        errno.EROFS: "; choose another path",
        errno.ENOSPC: "; make room, the same command goes on from there",
    }.get(error.errno, "")
    where = error.filename if error.filename is not None else "output"
    return f"{where}: {error.strerror}{advice}"
