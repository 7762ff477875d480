"""Memory that torch frees stays with the process, so that the next step does not pay its page faults again.

By default glibc hands large blocks back to the kernel, and a training step asks for the same blocks again.
Set by the command line, never by importing the library: a whole process is changed.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER, _PAD = 2**31 - 1, 256 * 2**20


def keep_freed_memory() -> bool:
    """Take memory from the heap alone, in steps of 256 MiB, and never trim it; whether this system can."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_TOP_PAD, _PAD)])
