"""Ask glibc to keep the pages of large tensors from one step to the next.

By default glibc gives blocks of 128 KiB and more back to the kernel when they are freed, and the next step
pays a page fault for each 4 KiB of them again. That is the larger part of what a private step costs over an
ordinary one on a CPU, and it comes and goes between two runs of the same code.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_PAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Keep freed memory in the process: no mmap, no trimming, the heap grown by 256 MiB at a time.

    A choice of a whole process, so for a program's start: the command line and benchmarks call it, importing the
    library never does. Resident memory stays at its peak until the process ends.

    Returns:
      False where the C library is not glibc, or refuses; nothing has changed then.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _PAD_BYTES))
    return all(mallopt(setting, value) == 1 for setting, value in settings)


def give_back_freed_memory() -> bool:
    """Hand freed pages to the kernel, for between two trainings: the next one's tensors are of other sizes.

    What `keep_freed_memory` keeps fits the steps of one training. Over several, each with its scores, holes of all
    sizes would pile up.

    Returns:
      False where the C library is not glibc, or had nothing to give.
    """
    try:
        return sys.platform.startswith("linux") and bool(ctypes.CDLL(None).malloc_trim(0))
    except AttributeError:  # musl
        return False
