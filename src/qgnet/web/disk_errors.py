"""Failures of the disk in words."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: OSError) -> bool:
    """Whether there is no room for what was to be written."""
    return error.errno in FULL


def disk_error_message(error: OSError) -> str:
    """A message for whoever was reading or writing; only of a full disk is it known which."""
    if is_full(error):
        return f"{error.strerror}: it was not written, and what was there before stays. Make room, then try again."
    what = error.filename or "A file"
    return f"{what} could not be read or written ({error.strerror or error}). Give the right to, or see to the disk."
