"""Free memory that costs no run anything.

A virtual machine may hand free pages to its host after two seconds (free page reporting), and whoever uses
them next pays for getting them back: 2.5 s for a GiB were seen, ten times what a copy takes.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from corpus import GIB, KIB, MIB, command, fail

# Holds as many bytes of memory as its argument says until its input ends; the first to be killed if memory runs out.
HOLDER = """
import mmap, pathlib, sys
pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
size, step = int(sys.argv[1]), 1 << 20
memory, ones = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), b"\\1" * step
for at in range(0, size, step):
    memory[at : at + step] = ones
print("held", flush=True)
sys.stdin.read()
"""


def meminfo(name: str) -> int:
    """A figure of /proc/meminfo, in bytes."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:"))


@contextlib.contextmanager
def held_but(left: int | None) -> Iterator[int]:
    """Takes all memory that is available but `left` bytes, or none; gives the bytes taken.

    With little left, runs get pages that the run before them used, and touch_free_memory can touch all.
    """
    size = 0 if left is None else max(0, meminfo("MemAvailable") - left) // MIB * MIB
    if not size:
        yield 0
        return
    words = (sys.executable, "-c", HOLDER, str(size))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            if holder.stdout.readline() != b"held\n":
                fail(f"{size // MIB} MiB of memory cannot be held")
            yield size
            if holder.poll() is not None:
                fail("the memory that was held ran out for others: the figures are no good")
        finally:
            holder.kill()


def touch_free_memory(size: int) -> None:
    """Writes to up to `size` bytes of free memory, and gives them back."""
    # Not to all that is free: the rest is for what happens meanwhile.
    size = min(size, meminfo("MemFree") * 7 // 8)
    # In another process, so that the peak of this one stays small; see own_peak.
    command("dd", "if=/dev/zero", "of=/dev/null", f"bs={size}", "count=1", "iflag=fullblock", "status=none")
