"""Messages for errors of the disk."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: OSError) -> bool:
    """Whether the disk has no room for a file."""
    return error.errno in FULL


def disk_error_message(error: OSError) -> str:
    """A message for an error while reading or writing; only a full disk tells that it was writing."""
    if is_full(error):
        return f"{error.strerror}: it was not written, and what was there before stays. Make room, then try again."
    what = error.filename or "A file"
    return f"{what} could not be read or written ({error.strerror or error}). Give the right to, or see to the disk."
