"""Power cuts, from what dm-log-writes recorded: what is on the disk if the power fails at many moments.

    replay.py LOG DISK POINT BASE CUTS FILE VERSION...

LOG is the device with the record, BASE the disk as it was when the record began. CUTS moments are drawn, evenly. For
each, DISK (the file behind a loop device) becomes what is certain to be there: all that was written before the last
flush, and of what was written since, a part drawn at random, as a disk with a cache may have it. It is mounted
at POINT, and FILE there must be equal to one of the files VERSION..., never to an older one than at the moment before,
and to none but the N-th if the record has the mark N already (`dmsetup message NAME 0 mark N`).

The record: Documentation/admin-guide/device-mapper/log-writes.rst, drivers/md/dm-log-writes.c of the kernel.
"""

import ctypes
import fcntl
import os
import random
import struct
import sys

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
BLKFLSBUF = 0x1261
SECTOR = 512
# The blocks of the filesystem, and its type.
TORN = 1024
TYPE = b"ext4"
libc = ctypes.CDLL(None, use_errno=True)


def entries(path):
    """What was recorded, in order: flags, offset, length, bytes."""
    with open(path, "rb") as log:
        magic, version, count, sector = struct.unpack("<QQQI", log.read(28))
        assert (magic, version, sector) == (MAGIC, 1, SECTOR), (magic, version, sector)
        log.seek(sector)
        for _ in range(count):
            head = log.read(sector)
            at, sectors, flags, length = struct.unpack("<QQQQ", head[:32])
            if flags & MARK:
                yield flags, 0, 0, head[32 : 32 + length].rstrip(b"\0")
            else:
                yield flags, at * sector, sectors * sector, b"" if flags & DISCARD else log.read(sectors * sector)


def record(path):
    """All of that, without the mark at its end."""
    recorded = list(entries(path))
    if recorded[-1][3] == b"dm-log-writes-end":
        recorded.pop()
    return recorded


def write(target, loop, disk):
    """Puts bytes onto a disk, past the cache of the device that stands for it."""
    with open(target, "r+b") as file:
        file.write(disk)
    with open(loop, "rb") as device:
        fcntl.ioctl(device, BLKFLSBUF)


def apply(disk, entry):
    flags, at, length, content = entry
    if flags & MARK:
        return
    disk[at : at + length] = bytes(length) if flags & DISCARD else content


class Disk:
    """What is on the disk when the power fails behind more and more of the entries."""

    def __init__(self, beginning, recorded):
        self.certain = bytearray(beginning)
        self.recorded = recorded
        # How many of the entries are certain to be there.
        self.flushed = 0

    def at_cut(self, cut, draw):
        flushes = [number for number in range(self.flushed, cut) if self.recorded[number][0] & FLUSH]
        upto = flushes[-1] + 1 if flushes else self.flushed
        for entry in self.recorded[self.flushed : upto]:
            apply(self.certain, entry)
        self.flushed = upto
        disk = bytearray(self.certain)
        chance = draw.choice((0, 0.5, 0.9, 1))
        for entry in self.recorded[upto:cut]:
            if entry[0] & FUA:
                apply(disk, entry)
            else:
                tear(disk, entry, lambda: draw.random() < chance)
        return disk


def tear(disk, entry, keeps):
    """Applies a part of what was written at once: a disk promises that of a sector, not of more."""
    flags, at, length, content = entry
    for begin in range(0, length, TORN):
        if keeps():
            apply(disk, (flags, at + begin, min(TORN, length - begin), content[begin : begin + TORN]))


def check(returned, what):
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Mounted:
    """A device, mounted as long as this is entered."""

    def __init__(self, device, point):
        self.device, self.point = device.encode(), point.encode()

    def __enter__(self):
        check(libc.mount(self.device, self.point, TYPE, 0, b""), "mount")

    def __exit__(self, *_):
        check(libc.umount2(self.point, 0), "umount")


def content(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def loop_of(path):
    for name in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8") as backing:
                if backing.read().strip() == os.path.realpath(path):
                    return f"/dev/{name}"
        except FileNotFoundError:
            continue
    raise SystemExit(f"{path} is behind no loop device")


def main():
    log, target, point, base, cuts, file, *versions = sys.argv[1:]
    recorded = record(log)
    disk = Disk(content(base), recorded)
    expected = [content(version) for version in versions]
    loop = loop_of(target)
    draw = random.Random(1)
    counts = [0] * len(versions)
    for turn in range(int(cuts)):
        cut = len(recorded) * turn // (int(cuts) - 1)
        marks = [int(entry[3]) for entry in recorded[:cut] if entry[0] & MARK]
        write(target, loop, disk.at_cut(cut, draw))
        with Mounted(loop, point):
            found = content(os.path.join(point, file))
            where = f"cut {cut} of {len(recorded)}, marks {marks}"
            if found not in expected:
                raise SystemExit(f"WRONG: {where}: {file} is {'missing' if found is None else 'none of those'}")
            version = expected.index(found)
            if version < (marks[-1] if marks else 0):
                raise SystemExit(f"WRONG: {where}: {file} is still {versions[version]}")
        counts[version] += 1
    print(f"{cuts} cuts in {len(recorded)} entries:", ", ".join(f"{v} {c}" for v, c in zip(versions, counts)))
    # Cuts of which all are on one side prove nothing.
    if not all(counts):
        raise SystemExit("some version was never found")


if __name__ == "__main__":
    main()
