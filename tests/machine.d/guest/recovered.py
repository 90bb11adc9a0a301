"""Power cuts of an XFS, from what dm-log-writes recorded: whether all that mkqcow2 calls free can be lost.

    recovered.py LOG DISK POINT BASE CUTS HASHES

LOG, DISK, POINT, BASE and CUTS as those of replay.py. HASHES has a line for each file `keptN`, which is synced if the
record has the mark N. At each cut, what `mkqcow2 map` calls free is overwritten with 0xa5. After that the filesystem
must mount, the files must be there, and xfs_repair must find nothing.
"""

import hashlib
import json
import os
import random
import subprocess
import sys

import replay

# A block of the filesystem: what is less is damage that XFS does not recover from, either.
replay.TORN = 4096
replay.TYPE = b"xfs"


def lose(disk, name):
    """Overwrites what is free. Returns how much that is, in bytes."""
    told = subprocess.run(["mkqcow2", "map", "--json", name], stdout=subprocess.PIPE, check=True).stdout
    free = [(part["start"], part["length"]) for part in json.loads(told) if part["free"]]
    for start, length in free:
        disk[start : start + length] = b"\xa5" * length
    return sum(length for _, length in free)


def check(point, synced, hashes, where):
    for number in range(1, synced + 1):
        name = f"kept{number}"
        found = replay.content(os.path.join(point, name))
        if found is None or hashlib.md5(found).hexdigest() != hashes[name]:
            raise SystemExit(f"WRONG: {where}: {name} is {'missing' if found is None else 'not what was synced'}")


def main():
    log, target, point, base, cuts, hashes = sys.argv[1:]
    with open(hashes, encoding="utf-8") as file:
        lines = [line.split() for line in file]
    hashes = {os.path.basename(name): digest for digest, name in lines}
    recorded = replay.record(log)
    state = replay.Disk(replay.content(base), recorded)
    loop = replay.loop_of(target)
    draw = random.Random(1)
    mapped = 0
    for turn in range(int(cuts)):
        cut = len(recorded) * (turn + 1) // (int(cuts) + 1)
        marks = [int(entry[3]) for entry in recorded[:cut] if entry[0] & replay.MARK]
        where = f"cut {cut} of {len(recorded)}, {len(marks)} files synced"
        disk = state.at_cut(cut, draw)
        replay.write(target, loop, disk)
        mapped += lose(disk, target) > 0
        replay.write(target, loop, disk)
        with replay.Mounted(loop, point):
            check(point, len(marks), hashes, where)
        repair = subprocess.run(["xfs_repair", "-n", loop], capture_output=True, check=False)
        if repair.returncode != 0:
            raise SystemExit(f"WRONG: {where}: {repair.stdout.decode()}{repair.stderr.decode()}")
    print(f"{cuts} cuts in {len(recorded)} entries: {mapped} mapped, all files that were synced are there")
    if mapped * 10 < int(cuts) * 9:
        raise SystemExit("less than nine of ten are mapped")


if __name__ == "__main__":
    main()
