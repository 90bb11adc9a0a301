#!/usr/bin/env python3
"""Reads 4 KiB at random places in the first BYTES of FILE, COUNT times, past the page cache.

reader.py FILE BYTES COUNT [THREADS]: all threads together read COUNT times, and always the same places.
"""

import mmap
import os
import random
import sys
import threading

PAGE = 4096


def read(path: str, size: int, count: int, seed: int) -> None:
    """Reads a whole page each time, so that the server is asked each time."""
    rng = random.Random(seed)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, PAGE) as page:
        for _ in range(count):
            at = rng.randrange(size // PAGE) * PAGE
            if (found := os.preadv(descriptor, [page], at)) != PAGE:
                print(f"{path}: read {found} bytes at {at:#x}", file=sys.stderr, flush=True)
                os._exit(1)
    os.close(descriptor)


def main() -> None:
    """Starts the readers, and waits for them."""
    path, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    threads = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    size = min(size, os.stat(path).st_size)
    readers = [threading.Thread(target=read, args=(path, size, count // threads, seed)) for seed in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


if __name__ == "__main__":
    main()
