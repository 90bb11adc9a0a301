"""The sources that the contests of benches/versus are about."""

import contextlib
import ctypes
import errno
import itertools
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
CLUSTER = 64 * KIB
L2_ENTRIES = CLUSTER // 8
SEED = 2718281828
EXTENT = 4 * MIB
# Of XFS: bytes of a block, groups of the vast one; and modes of fallocate(2).
BLOCK, XFS_GROUPS = 4 * KIB, 16
KEEP_SIZE, PUNCH_HOLE = 1, 2
FILESYSTEM_ID = "6d6b7163-6f77-4232-8000-000000000001"


def fail(message: str) -> NoReturn:
    """Ends the program with status 1, cleaning up on the way."""
    sys.exit(f"versus: {message}")


def command(*words: str | Path, given: str = "") -> str:
    """What a helper program prints; its failure ends this one."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        fail(f"{' '.join(map(str, words))}: status {done.returncode}: {said}")
    return done.stdout


def scaled(size: int, scale: float) -> int:
    """`size` times `scale` in bytes, in whole clusters, at least one."""
    return max(1, int(size * scale) // CLUSTER) * CLUSTER


def build_random(path: Path, scale: float) -> None:
    """Writes 1 GiB of incompressible bytes."""
    rng = random.Random(SEED)
    with path.open("wb") as file:
        for _ in range(scaled(GIB, scale) // CLUSTER):
            file.write(rng.randbytes(CLUSTER))


def build_large(path: Path, scale: float) -> None:
    """Writes 2 GiB of incompressible bytes."""
    build_random(path, 2 * scale)


def build_text(path: Path, scale: float) -> None:
    """Writes 1 GiB of lines of made-up words, frequent ones far more often than rare ones.

    The lines come from a pool of 2.5 MB, so that few repeat within a cluster.
    """
    rng = random.Random(SEED)
    syllables = [first + last for first in "bcdfglmnprstv" for last in ("a", "e", "in", "o", "ur")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(2000)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    lines = [" ".join(rng.choices(words, cum_weights=weights, k=12)).encode() + b"\n" for _ in range(1 << 15)]
    size = scaled(GIB, scale)
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(b"".join(rng.choices(lines, k=4096)))
        file.truncate(size)


def build_tar(path: Path, scale: float) -> None:
    """Writes 1 GiB of a tar of the regular files below /usr/share and /usr/lib, in the order of their names.

    Where that is less, the same follows again, each time at another place within a cluster, so that no two
    clusters are equal because of it; and says so.
    """
    size = scaled(GIB, scale)
    with path.open("wb") as file:
        while file.tell() < size:
            start = file.tell()
            append_tar(file, size)
            # With an odd number of blocks, 128 copies follow before one lies in its clusters as the first does.
            if (file.tell() - start) // tarfile.BLOCKSIZE % 2 == 0:
                file.write(tarfile.TarInfo("odd").tobuf())
            if start:
                print(f"versus: {path.name}: /usr is small, its files repeat from byte {start}", file=sys.stderr)
        file.truncate(size)


def append_tar(file: BinaryIO, size: int) -> None:
    """Appends members of a tar without its end, until the file has at least `size` bytes or all are there."""
    archive = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)
    for directory in ("/usr/share", "/usr/lib"):
        for original in regular_files(directory):
            if file.tell() >= size:
                return
            if os.access(original, os.R_OK):
                archive.add(original)
                archive.members.clear()  # Else the peak of this script grows; see own_peak.


def build_repeated(path: Path, scale: float) -> None:
    """Writes 1 GiB of a tar as build_tar does, then has 30 % of its clusters, scattered, repeat one of the others
    that compresses.
    """
    build_tar(path, scale)
    rng = random.Random(SEED)
    places = range(path.stat().st_size // CLUSTER)
    repeats = set(rng.sample(places, len(places) * 3 // 10))
    with path.open("r+b") as file:
        originals = [place for place in places if place not in repeats and compresses(cluster_at(file, place))]
        if not originals:
            fail(f"{path}: no cluster compresses")
        for place in sorted(repeats):
            os.pwrite(file.fileno(), cluster_at(file, rng.choice(originals)), place * CLUSTER)


def cluster_at(file: BinaryIO, place: int) -> bytes:
    """The bytes of a cluster."""
    return os.pread(file.fileno(), CLUSTER, place * CLUSTER)


def compresses(cluster: bytes) -> bool:
    """Whether a cluster is not all zeros, and would be stored as a stream."""
    return any(cluster) and len(zlib.compress(cluster, 1)) <= CLUSTER - tarfile.BLOCKSIZE


def build_ext4(path: Path, scale: float) -> None:
    """Makes an ext4 filesystem of 4 GiB and fills it with 2.9 GiB of files, of which 1.3 GiB are then deleted.

    The layout is seeded; the files, and so the bytes, are those of this machine.
    """
    size = make_ext4(path, scaled(4 * GIB, scale), lazy=0)
    with mounted(path) as root:
        fill_and_thin_out(root, size)


def change_files(path: Path) -> None:
    """Overwrites files, anywhere in a filesystem, in their places: 1 % of its size."""
    with mounted(path) as root:
        # In the same order everywhere; a list of them would let the peak of this script grow, see own_peak.
        rng, left = random.Random(SEED), path.stat().st_size // 100
        while left > 0:
            for copy in regular_files(str(root)):
                if left > 0 and rng.random() < 0.02:
                    with copy.open("r+b") as file:
                        length = copy.stat().st_size
                        file.write(rng.randbytes(length))
                        left -= max(length, BLOCK)


def change_clusters(path: Path) -> None:
    """Overwrites 1 % of the clusters that hold data by what begins 999 bytes further on."""
    rng = random.Random(SEED)
    with path.open("r+b") as file:
        for start, end in data_ranges(file):
            for place in range(start // CLUSTER, end // CLUSTER):
                if rng.random() < 0.01:
                    os.pwrite(file.fileno(), os.pread(file.fileno(), CLUSTER, place * CLUSTER + 999), place * CLUSTER)


def data_ranges(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Start and end, in bytes, of what is no hole of a file, ascending."""
    end = 0
    while True:
        try:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        yield start, end


def build_xfs(path: Path, scale: float) -> None:
    """The same with XFS, without shared blocks."""
    size = make_xfs(path, scaled(4 * GIB, scale))
    # Without blocks in advance, which would count as used until they are given back.
    with mounted(path, options="loop,nosuid,allocsize=4k") as root:
        fill_and_thin_out(root, size)


def build_btrfs(path: Path, scale: float) -> None:
    """The same with Btrfs: what is deleted stays in a snapshot, until that is deleted, too."""
    size = make_btrfs(path, scaled(4 * GIB, scale))
    # Nothing is discarded, or the file would have holes where it is stale.
    with mounted(path, options="loop,nosuid,nodiscard") as root:
        volume, snapshot = root / "volume", root / "snapshot"
        command("btrfs", "subvolume", "create", volume)
        copies = fill(volume, size * 29 // 40)
        command("btrfs", "subvolume", "snapshot", volume, snapshot)
        thin_out(copies, size)
        command("btrfs", "subvolume", "delete", "--commit-after", snapshot)
        command("btrfs", "subvolume", "sync", root)


def fill_and_thin_out(root: Path, size: int) -> None:
    """Fills 29 of 40 parts of a filesystem of `size` bytes, and deletes 13 of them again."""
    thin_out(fill(root, size * 29 // 40), size)


def thin_out(copies: list[Path], size: int) -> None:
    """Deletes files that take 13 of 40 parts of `size` bytes."""
    os.sync()  # A file deleted before its blocks are written leaves nothing stale.
    random.Random(SEED).shuffle(copies)
    doomed = size * 13 // 40
    while doomed > 0:
        copy = copies.pop()
        doomed -= copy.stat().st_blocks * 512
        copy.unlink()


def build_lvm(path: Path, scale: float) -> None:
    """Makes a disk of 4 GiB with a GPT, in its partition a physical volume of LVM, on that a volume with an ext4
    filesystem as that of build_ext4. The kernel need not know LVM: see logical_volume.
    """
    size = scaled(4 * GIB, scale)
    with path.open("wb") as file:
        file.truncate(size)
    command("sfdisk", "--quiet", path, given="label: gpt\nstart=1MiB\n")
    start, length = logical_volume(size)
    with looped(path, MIB, size - 2 * MIB) as device:
        command("pvcreate", "--devices", device, "--quiet", "--yes", device)
        command("vgcreate", "--devices", device, "--quiet", "mkqcow2-versus", device)
        made = ("--driverloaded", "n", "--activate", "n", "--zero", "n", "--wipesignatures", "n", "--yes", "--quiet")
        name = ("--extents", str(length // EXTENT), "--name", "root", "mkqcow2-versus")
        command("lvcreate", "--devices", device, *made, *name)
    with looped(path, start, length) as device:
        command("mkfs.ext4", "-q", "-F", "-b", "4096", "-U", FILESYSTEM_ID, device)
        with mounted(device, path.with_suffix(".mnt"), "nosuid") as root:
            fill_and_thin_out(root, length)


def logical_volume(size: int) -> tuple[int, int]:
    """Where the volume begins on the disk that build_lvm makes, and its length, in bytes."""
    return 2 * MIB, (size - 3 * MIB) // EXTENT * EXTENT


@contextlib.contextmanager
def looped(path: Path, start: int, length: int) -> Iterator[Path]:
    """A loop device over a part of a file."""
    device = command("losetup", "--find", "--show", f"--offset={start}", f"--sizelimit={length}", path).strip()
    try:
        yield Path(device)
    finally:
        command("losetup", "--detach", device)


def build_vast(path: Path, scale: float) -> None:
    """Makes an ext4 filesystem of 16 TiB, or a block less, of which 10 GiB are in use, in pieces of 128 KiB
    with as much free space between them; nothing is written to the files.
    """
    size = make_ext4(path, min(scaled(16 * TIB, scale), 16 * TIB - MIB), lazy=1)
    with mounted(path) as root:
        count = scaled(20 * GIB, size / (16 * TIB)) // (128 * KIB)
        for number in range(0, count, 1000):
            (root / str(number)).mkdir()

        # A list of them would let the peak of this script grow; see own_peak.
        def path_of(number: int) -> Path:
            return root / str(number // 1000 * 1000) / str(number)

        for number in range(count):
            with path_of(number).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 128 * KIB)
        for number in range(0, count, 2):
            path_of(number).unlink()


def make_ext4(path: Path, size: int, lazy: int) -> int:
    """Makes an ext4 filesystem of `size` bytes in a file of holes; returns the size."""
    with path.open("wb") as file:
        file.truncate(size)
    extended = f"hash_seed={FILESYSTEM_ID},lazy_itable_init={lazy},lazy_journal_init={lazy}"
    command("mkfs.ext4", "-q", "-F", "-b", "4096", "-U", FILESYSTEM_ID, "-E", extended, path)
    return size


def build_vast_xfs(path: Path, scale: float) -> None:
    """Makes an XFS filesystem of 15 TiB with a million free extents of one block: files of as many blocks in every
    group, of which every other one is given back; nothing is written to them.
    """
    pieces = int(65_000 * min(scale, 1))
    make_xfs(path, 15 * TIB, "-d", f"agcount={XFS_GROUPS}", "-l", "size=128m")
    with mounted(path) as root:
        # Each directory is in another group, and its files with it.
        for number in range(XFS_GROUPS):
            directory = root / str(number)
            directory.mkdir()
            with (directory / "file").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 2 * pieces * BLOCK)
                punch(file, BLOCK, pieces)


def make_xfs(path: Path, size: int, *options: str) -> int:
    """Makes an XFS filesystem of `size` bytes in a file of holes; returns the size."""
    with path.open("wb") as file:
        file.truncate(size)
    command("mkfs.xfs", "-q", "-f", "-m", f"uuid={FILESYSTEM_ID}", *options, path)
    return size


def build_vast_btrfs(path: Path, scale: float) -> None:
    """Makes a Btrfs of 1 TiB with 200,000 extents of 2 MiB, and as many free ones between them: a file of twice as many,
    of which every other one is given back; nothing is written to it.
    """
    pieces = int(200_000 * min(scale, 1))
    # Without copies, what is in use is what the superblock says.
    make_btrfs(path, TIB, "-m", "single")
    with mounted(path, options="loop,nosuid,nodiscard") as root, (root / "file").open("wb") as file:
        # What is reserved at once is one extent, of which no part is given back.
        for piece in range(2 * pieces):
            os.posix_fallocate(file.fileno(), piece * 2 * MIB, 2 * MIB)
        punch(file, 2 * MIB, pieces)


def make_btrfs(path: Path, size: int, *options: str) -> int:
    """Makes a Btrfs of `size` bytes in a file of holes; returns the size."""
    with path.open("wb") as file:
        file.truncate(size)
    command("mkfs.btrfs", "-q", "-f", "-U", FILESYSTEM_ID, *options, path)
    return size


def punch(file: BinaryIO, length: int, count: int) -> None:
    """Gives back every other piece of `length` bytes of a file, `count` of them."""
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    for piece in range(count):
        if fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, 2 * piece * length, length):
            fail(f"{file.name}: fallocate: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def mounted(filesystem: Path, root: Path | None = None, options: str = "loop,nosuid") -> Iterator[Path]:
    """Mounts an image on a new directory, beside it if not told, and unmounts it whatever happens."""
    root = root or filesystem.with_suffix(".mnt")
    root.mkdir()
    try:
        command("mount", "-o", f"{options},nodev,noexec", filesystem, root)
        yield root
    finally:
        if root.is_mount():
            command("umount", root)
        root.rmdir()


def fill(root: Path, used: int) -> list[Path]:
    """Copies system files below `root`, over and over, until about `used` bytes of its filesystem are taken;
    gives the copies.

    Leaves out files so large that one could overshoot.
    """
    copies = []

    def taken() -> int:
        space = os.statvfs(root)
        return (space.f_blocks - space.f_bfree) * space.f_frsize

    for turn in itertools.count():
        before = len(copies)
        for directory in ("/usr/share", "/usr/lib"):
            for original in regular_files(directory):
                if taken() >= used:
                    os.sync()  # Until blocks are allocated, XFS counts more than files will take.
                    if taken() >= used:
                        return copies
                space = os.statvfs(root)
                if original.stat().st_size > space.f_blocks * space.f_frsize / 64:
                    continue
                copy = root / str(turn) / original.relative_to("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                copies.append(Path(shutil.copyfile(original, copy)))
        if len(copies) == before:
            fail(f"{root}: /usr/share and /usr/lib hold no file to fill it with")


def regular_files(directory: str) -> Iterator[Path]:
    """The regular files below `directory`, in the order of their names."""
    for parent, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def sparse_places(scale: float) -> list[int]:
    """The clusters, ascending, that hold data in the sparse source: 1 GiB of them in 1 TiB."""
    places = range(scaled(TIB, scale) // CLUSTER)
    return sorted(random.Random(SEED).sample(places, scaled(GIB, scale) // CLUSTER))


def build_sparse(path: Path, scale: float) -> None:
    """Writes 1 GiB of random bytes, scattered one cluster at a time over a hole of 1 TiB."""
    rng = random.Random(SEED)
    with path.open("wb") as file:
        file.truncate(scaled(TIB, scale))
        for place in sparse_places(scale):
            file.seek(place * CLUSTER)
            file.write(rng.randbytes(CLUSTER))


def build_thin(path: Path, scale: float) -> None:
    """Makes a hole of 16 TiB with a cluster of random bytes in each GiB."""
    build_empty(path, scale)
    rng = random.Random(SEED)
    with path.open("r+b") as file:
        for start in range(0, path.stat().st_size - GIB, GIB):
            os.pwrite(file.fileno(), rng.randbytes(CLUSTER), start + rng.randrange(GIB // CLUSTER) * CLUSTER)


def build_empty(path: Path, scale: float) -> None:
    """Makes a hole of 16 TiB, or one cluster less where the filesystem's limit is just below that."""
    size = scaled(16 * TIB, scale)
    with path.open("wb") as file:
        try:
            file.truncate(size)
        except OSError as error:
            if error.errno not in (errno.EFBIG, errno.EINVAL):
                raise
            file.truncate(size - CLUSTER)
