"""Proof that mkqcow2 did what it was measured at: a fast wrong tool is worth nothing."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from contest import Places
from corpus import BLOCK, CLUSTER, MIB, XFS_GROUPS, command, fail, logical_volume, looped


def prove_metadata(places: Places) -> None:
    """Stops unless the image is clean and its virtual disk as long as the source."""
    command("qemu-img", "check", "-f", "qcow2", places["IMAGE"])
    info = json.loads(command("qemu-img", "info", "-f", "qcow2", "--output=json", places["IMAGE"]))
    expected = places["SOURCE"].stat().st_size
    if info["virtual-size"] != expected:
        fail(f"the virtual disk has {info['virtual-size']} bytes, the source {expected}")


def prove_bytes(places: Places) -> None:
    """Stops unless the image is clean and equal to the source in every byte."""
    prove_metadata(places)
    command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", places["SOURCE"], places["IMAGE"])


def prove_converted(places: Places) -> None:
    """Stops unless what an image was made of is clean and equal to the source in every byte."""
    prove_bytes(places | {"IMAGE": places["TARGET"]})


def prove_compressed(compression: str, places: Places) -> None:
    """Stops unless the image is clean, equal to the source in every byte, compressed as it should be and what
    its checksums say.
    """
    prove_bytes(places)
    info = json.loads(command("qemu-img", "info", "-f", "qcow2", "--output=json", places["IMAGE"]))
    found = info["format-specific"]["data"]["compression-type"]
    if found != compression:
        fail(f"the compression of the image is {found}, expected {compression}")
    check = json.loads(command("qemu-img", "check", "-f", "qcow2", "--output=json", places["IMAGE"]))
    if not check.get("compressed-clusters"):
        fail("no cluster of the image is compressed")
    command(places["MKQCOW2"], "verify", places["IMAGE"])


def prove_used_blocks(places: Places) -> None:
    """Stops unless the image is clean and equal to the source in every block ext4 has in use.

    Comparing everything would condemn a tool that leaves out stale free blocks, as it should.
    """
    prove_ranges(places, used_ranges(places["SOURCE"]))


def prove_differences(places: Places) -> None:
    """The same, and unless an incremental image has no more than the clusters that differ from its base, and a tenth."""
    prove_used_blocks(places)
    if not has_base(places["IMAGE"]):
        return  # The yardstick: all of it.
    base = places["TARGET"]
    command("qemu-img", "convert", "-f", "qcow2", "-O", "raw", places["BASE"], base)
    differ = set()
    with places["SOURCE"].open("rb") as now, base.open("rb") as before:
        for start, end in used_ranges(places["SOURCE"]):
            for at in range(start // CLUSTER * CLUSTER, end, CLUSTER):
                first, length = max(start, at), min(end, at + CLUSTER) - max(start, at)
                if os.pread(now.fileno(), length, first) != os.pread(before.fileno(), length, first):
                    differ.add(at)
    base.unlink()
    found, expected = places["IMAGE"].stat().st_size, len(differ) * CLUSTER
    if found > 1.1 * expected:
        fail(f"the image has {found} bytes; {len(differ)} clusters differ, which take {expected}")
    print(f"{len(differ)} clusters differ, {expected / MIB:.1f} MiB; the image has {found / MIB:.1f} MiB")


def prove_merged(places: Places) -> None:
    """Stops unless the image is clean, without a base, equal to the source in every byte and what its checksums say."""
    prove_bytes(places)
    if has_base(places["IMAGE"]):
        fail("the merged image stands on another one")
    command(places["MKQCOW2"], "verify", places["IMAGE"])


def has_base(image: Path) -> bool:
    """Whether an image stands on another one."""
    return "backing-filename" in json.loads(command("qemu-img", "info", "-f", "qcow2", "--output=json", image))


def prove_used_of_volume(places: Places) -> None:
    """The same of the logical volume on a disk, and of all that lies in front of it."""
    start, length = logical_volume(places["SOURCE"].stat().st_size)
    with looped(places["SOURCE"], start, length) as device:
        used = [(start + first, min(start + end, start + length)) for first, end in used_ranges(device, length)]
    prove_ranges(places, [(0, start), *used])


def prove_used_of_xfs(places: Places) -> None:
    """The same of every block XFS has in use, but for the few that it keeps for its trees, which xfs_db calls free."""
    source = places["SOURCE"]
    words = ("-c", "freesp -d", "-c", "sb 0", "-c", "p blocksize agblocks")
    listing = command("xfs_db", "-f", "-r", *words, source)
    block, group = (int(number) for number in re.findall(r"^(?:blocksize|agblocks) = (\d+)$", listing, re.M))
    used, used_from = [], 0
    # Group, block in it, length. Those that are kept for trees come first.
    lines = (map(int, line) for line in re.findall(r"^ +(\d+) +(\d+) +(\d+)$", listing, re.M))
    for number, first, length in sorted(map(tuple, lines)):
        start = (number * group + first) * block
        used.append((used_from, start))
        used_from = start + length * block
    prove_ranges(places, [*used, (used_from, source.stat().st_size)])


def prove_used_of_btrfs(places: Places) -> None:
    """Stops unless the image is clean, and a Btrfs whose metadata and data are what their checksums say."""
    prove_metadata(places)
    restored = places["TARGET"]
    command("qemu-img", "convert", "-f", "qcow2", "-O", "raw", places["IMAGE"], restored)
    command("btrfs", "check", "--readonly", "--check-data-csum", restored)
    restored.unlink()


def prove_ranges(places: Places, ranges: Iterable[tuple[int, int]]) -> None:
    """Stops unless the image is clean and equal to the source in these ranges."""
    prove_metadata(places)
    source, restored = places["SOURCE"], places["TARGET"]
    command("qemu-img", "convert", "-f", "qcow2", "-O", "raw", places["IMAGE"], restored)
    with source.open("rb") as expected, restored.open("rb") as found:
        for start, end in ranges:
            for at in range(start, end, MIB):
                length = min(MIB, end - at)
                if os.pread(expected.fileno(), length, at) != os.pread(found.fileno(), length, at):
                    fail(f"the blocks in use differ between {at:#x} and {at + length:#x}")
    restored.unlink()


def prove_scan(places: Places) -> None:
    """Stops unless as much is in use as ext4 says, and holes of the file are left out."""
    plan = json.loads(command(places["MKQCOW2"], "-n", "--json", places["SOURCE"], places["IMAGE"]))
    expected = sum(end - start for start, end in used_ranges(places["SOURCE"]))
    found = plan["regions"][0]["used"]
    if found != expected:
        fail(f"{found} bytes are found to be in use, expected {expected}")


def prove_scan_of_xfs(places: Places) -> None:
    """Stops unless as much is in use as XFS says."""
    # Not all ranges: a list of them would let the peak of this script grow; see own_peak.
    regions = json.loads(command(places["MKQCOW2"], "map", "--regions", "--json", places["SOURCE"]))
    size = places["SOURCE"].stat().st_size
    words = [word for group in range(XFS_GROUPS) for word in ("-c", f"agf {group}", "-c", "p freeblks")]
    listing = command("xfs_db", "-f", "-r", *words, places["SOURCE"])
    free = sum(int(number) for number in re.findall(r"^freeblks = (\d+)$", listing, re.M))
    found = regions[0]["used"]
    if found != size - free * BLOCK:
        fail(f"{found} bytes are found to be in use, expected {size - free * BLOCK}")


def prove_scan_of_btrfs(places: Places) -> None:
    """Stops unless as much is in use as Btrfs says, with what lies in front of it and the two other superblocks."""
    regions = json.loads(command(places["MKQCOW2"], "map", "--regions", "--json", places["SOURCE"]))
    listing = command("btrfs", "inspect-internal", "dump-super", places["SOURCE"])
    expected = int(re.search(r"^bytes_used\s+(\d+)$", listing, re.M)[1]) + MIB + 2 * CLUSTER
    found = regions[0]["used"]
    if found != expected:
        fail(f"{found} bytes are found to be in use, expected {expected}")


def used_ranges(filesystem: Path, size: int | None = None) -> Iterator[tuple[int, int]]:
    """Start and end, in bytes, of the ranges that are not free in the maps of an ext4 filesystem."""
    listing = command("dumpe2fs", filesystem)
    block_size = int(re.search(r"^Block size: +(\d+)$", listing, re.M)[1])
    used_from = 0
    for ranges in re.findall(r"^  Free blocks: (\d.*)$", listing, re.M):
        for free in ranges.split(", "):
            first, _, last = free.partition("-")
            yield used_from, int(first) * block_size
            used_from = (int(last or first) + 1) * block_size
    yield used_from, size or filesystem.stat().st_size


def prove_restored(places: Places) -> None:
    """Stops unless the target has the length and the bytes of the source."""
    command("cmp", places["SOURCE"], places["TARGET"])


def prove_check(places: Places) -> None:
    """Stops unless `check` notices the refcount of one cluster that is in use and said to be free."""
    with flipped_bit(places["IMAGE"], refcount_in_the_middle(places["IMAGE"])):
        expect_status(2, places["MKQCOW2"], "check", places["IMAGE"])


def prove_compare(places: Places) -> None:
    """Stops unless `compare` notices one bit of the source that differs."""
    with flipped_bit(places["SOURCE"], middle(places["SOURCE"])):
        expect_status(1, places["MKQCOW2"], "compare", places["IMAGE"], places["SOURCE"])


def prove_verify(places: Places) -> None:
    """Stops unless `verify` notices one bit of data that flipped."""
    with flipped_bit(places["IMAGE"], middle(places["IMAGE"])):
        expect_status(2, places["MKQCOW2"], "verify", places["IMAGE"])


def middle(path: Path) -> int:
    """Where half of a file lies behind."""
    return path.stat().st_size // 2


def refcount_in_the_middle(image: Path) -> int:
    """Where the last byte of the refcount, of 16 bits, of the cluster in the middle of an image is."""
    with image.open("rb") as file:

        def number(at: int, width: int) -> int:
            return int.from_bytes(os.pread(file.fileno(), width, at))

        cluster_size = 1 << number(20, 4)
        refcounts = cluster_size // 2
        block, entry = divmod(middle(image) // cluster_size, refcounts)
        return number(number(48, 8) + 8 * block, 8) + 2 * entry + 1


@contextlib.contextmanager
def flipped_bit(path: Path, at: int) -> Iterator[None]:
    """Flips the lowest bit of the byte at `at`, and flips it back whatever happens."""

    def flip() -> None:
        with path.open("r+b", buffering=0) as file:
            byte = os.pread(file.fileno(), 1, at)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1]), at)

    flip()
    try:
        yield
    finally:
        flip()


def expect_status(status: int, *words: str | Path) -> None:
    """Stops unless a command ends with a status."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != status:
        fail(f"{' '.join(map(str, words))}: status {done.returncode} in spite of a planted fault, expected {status}")
