"""What is freed stays for the next step, and goes back between two trainings."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from dp_train.engines.allocator import give_back_freed_memory, keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

assert keep_freed_memory()
tensors = [torch.ones(64 << 18) for _ in range(4)]
fence = torch.ones(1 << 18)  # behind them: what is freed is not the heap's end
del tensors
kept = resident()
assert give_back_freed_memory()
print(kept - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_stays_until_it_is_given_back() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert 200 <= int(ran.stdout) <= 300  # MiB, of 256 that were freed and kept
