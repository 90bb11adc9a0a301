"""The cases of benches/versus: a source each, the work on it and the tools that do it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contest import Tool, Work, tool
from corpus import (
    build_btrfs,
    build_empty,
    build_ext4,
    build_large,
    build_lvm,
    build_random,
    build_repeated,
    build_sparse,
    build_tar,
    build_text,
    build_thin,
    build_vast,
    build_vast_btrfs,
    build_vast_xfs,
    build_xfs,
    change_clusters,
    change_files,
)
from mounts import BEYOND, BEYOND_4, MOUNT_NEEDS, MOUNTING, SEQUENTIAL, WITHIN
from proof import (
    prove_bytes,
    prove_check,
    prove_compare,
    prove_compressed,
    prove_converted,
    prove_differences,
    prove_merged,
    prove_metadata,
    prove_restored,
    prove_scan,
    prove_scan_of_btrfs,
    prove_scan_of_xfs,
    prove_used_blocks,
    prove_used_of_btrfs,
    prove_used_of_volume,
    prove_used_of_xfs,
    prove_verify,
)

PACKAGES = {
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "nbdfuse": "libnbd-bin",
    "python3": "python3",
    "e2image": "e2fsprogs",
    "partclone.btrfs": "partclone",
    "partclone.extfs": "partclone",
    "partclone.xfs": "partclone",
    "btrfs": "btrfs-progs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_copy": "xfsprogs",
    "xfs_db": "xfsprogs",
    "dumpe2fs": "e2fsprogs",
    "mount": "mount",
    "umount": "mount",
    "zstd": "zstd",
    "bash": "bash",
    "sfdisk": "fdisk",
    "lvcreate": "lvm2",
    "losetup": "mount",
}


MKQCOW2 = tool("MKQCOW2 --no-sync -q SOURCE IMAGE")
QEMU = tool("qemu-img convert -f raw -O qcow2 SOURCE IMAGE")
QEMU_PARALLEL = tool("qemu-img convert -f raw -O qcow2 -W -m 16 SOURCE IMAGE")
CP = tool("cp --sparse=always SOURCE IMAGE")
E2IMAGE = tool("e2image -Qa SOURCE IMAGE")
PARTCLONE = Tool("partclone.extfs -c", ("partclone.extfs", "-c", "-q", "-F", "-L", "LOG", "-s", "SOURCE", "-o", "IMAGE"))
PARTCLONE_XFS = Tool("partclone.xfs -c", ("partclone.xfs", "-c", "-q", "-F", "-L", "LOG", "-s", "SOURCE", "-o", "IMAGE"))
PARTCLONE_BTRFS_WORDS = ("partclone.btrfs", "-c", "-q", "-F", "-L", "LOG", "-s", "SOURCE", "-o", "IMAGE")
PARTCLONE_BTRFS = Tool("partclone.btrfs -c", PARTCLONE_BTRFS_WORDS)
# Its log must be a new file.
XFS_COPY_SCRIPT = 'xfs_copy -b -d -L "$3.xfs_copy" "$1" "$2" && rm "$3.xfs_copy"'
XFS_COPY = Tool("xfs_copy -b -d", ("sh", "-c", XFS_COPY_SCRIPT, "sh", "SOURCE", "IMAGE", "LOG"))
# In clusters as small as those of e2image.
MKQCOW2_4K = tool("MKQCOW2 --cluster-size 4K --no-sync -q SOURCE IMAGE")
SCAN = tool("MKQCOW2 -n SOURCE IMAGE")
MKQCOW2_SYNCED = tool("MKQCOW2 -q SOURCE IMAGE")
QEMU_SYNCED_SCRIPT = 'qemu-img convert -f raw -O qcow2 "$1" "$2" && sync "$2"'
QEMU_SYNCED = Tool("qemu-img convert && sync", ("sh", "-c", QEMU_SYNCED_SCRIPT, "sh", "SOURCE", "IMAGE"))

MKQCOW2_ZSTD = tool("MKQCOW2 -c zstd --no-sync -q SOURCE IMAGE")
MKQCOW2_ZSTD_1 = tool("MKQCOW2 -c zstd:1 --no-sync -q SOURCE IMAGE")
MKQCOW2_ZSTD_3 = tool("MKQCOW2 -c zstd:3 --no-sync -q SOURCE IMAGE")
MKQCOW2_ZLIB = tool("MKQCOW2 -c zlib --no-sync -q SOURCE IMAGE")
MKQCOW2_DEDUPE = tool("MKQCOW2 -c zstd --dedupe --no-sync -q SOURCE IMAGE")
QEMU_PACK_ZSTD = tool("qemu-img convert -f raw -O qcow2 -c -W -m 16 -o compression_type=zstd SOURCE IMAGE")
QEMU_PACK_ZLIB = tool("qemu-img convert -f raw -O qcow2 -c -W -m 16 -o compression_type=zlib SOURCE IMAGE")
ZSTD = Tool("zstd -T2 -3", ("zstd", "-q", "-f", "-T2", "-3", "SOURCE", "-o", "IMAGE"))
PIPE_SCRIPT = 'set -o pipefail; "$1" -q "$2" - | cat > "$3"'
MKQCOW2_PIPED = Tool("mkqcow2 - | cat", ("bash", "-c", PIPE_SCRIPT, "bash", "MKQCOW2", "SOURCE", "IMAGE"))

QEMU_4K = tool("qemu-img convert -f raw -O qcow2 -o cluster_size=4k SOURCE IMAGE")
QEMU_ZSTD = tool("qemu-img convert -f raw -O qcow2 -c -m 16 -o compression_type=zstd SOURCE IMAGE")
QEMU_ZLIB = tool("qemu-img convert -f raw -O qcow2 -c -m 16 -o compression_type=zlib SOURCE IMAGE")

RESTORE = tool("MKQCOW2 restore --no-sync IMAGE TARGET")
QEMU_RESTORE = tool("qemu-img convert -f qcow2 -O raw IMAGE TARGET")
QEMU_RESTORE_PARALLEL = tool("qemu-img convert -f qcow2 -O raw -W -m 16 IMAGE TARGET")
CP_IMAGE = tool("cp --sparse=never IMAGE TARGET")
CHECK = tool("MKQCOW2 check IMAGE")
QEMU_CHECK = tool("qemu-img check -f qcow2 IMAGE")
QEMU_QED = tool("qemu-img convert -f raw -O qed SOURCE IMAGE")
# qemu-img 10.0 exits with 1 although the image is complete, and says nothing.
QEMU_QCOW_SCRIPT = 'qemu-img convert -f raw -O qcow -c "$1" "$2" || qemu-img compare -q -f raw -F qcow "$1" "$2"'
QEMU_QCOW = Tool("qemu-img convert -O qcow -c", ("sh", "-c", QEMU_QCOW_SCRIPT, "sh", "SOURCE", "IMAGE"))
CONVERT_QED = tool("MKQCOW2 --source-format qed --no-sync -q IMAGE TARGET")
QEMU_CONVERT_QED = tool("qemu-img convert -f qed -O qcow2 -W -m 16 IMAGE TARGET")
CONVERT_QCOW = tool("MKQCOW2 --source-format qcow --no-sync -q IMAGE TARGET")
QEMU_CONVERT_QCOW = tool("qemu-img convert -f qcow -O qcow2 -W -m 16 IMAGE TARGET")
COMPARE = tool("MKQCOW2 compare IMAGE SOURCE")
QEMU_COMPARE = tool("qemu-img compare -f qcow2 -F raw IMAGE SOURCE")
VERIFY = tool("MKQCOW2 verify IMAGE")
CKSUM = tool("cksum IMAGE")

BASE = tool("MKQCOW2 --digests --no-sync -q SOURCE BASE")
# Without digests: each cluster of it is read.
PLAIN_BASE = tool("MKQCOW2 --no-sync -q SOURCE PLAIN")
BASE_ZSTD = tool("MKQCOW2 -c zstd --no-sync -q SOURCE BASE")
BASE_ZLIB = tool("MKQCOW2 -c zlib --no-sync -q SOURCE BASE")
INCREMENT = tool("MKQCOW2 --base BASE --no-sync -q SOURCE IMAGE")
INCREMENT_BY_BYTES = tool("MKQCOW2 --base PLAIN --no-sync -q SOURCE IMAGE")
INCREMENT_ZSTD = tool("MKQCOW2 -c zstd --base BASE --no-sync -q SOURCE IMAGE")
TOP_ZSTD = tool("MKQCOW2 -c zstd --base BASE --no-sync -q SOURCE TOP")
TOP_ZLIB = tool("MKQCOW2 -c zlib --base BASE --no-sync -q SOURCE TOP")
# What is merged is replaced.
MERGE_SCRIPT = 'cp "$2" "$3" && exec "$1" merge --no-sync -q "$3"'
MERGE = Tool("cp && mkqcow2 merge", ("sh", "-c", MERGE_SCRIPT, "sh", "MKQCOW2", "TOP", "IMAGE"))
QEMU_MERGE_ZSTD = tool("qemu-img convert -f qcow2 -O qcow2 -c -W -m 16 -o compression_type=zstd TOP IMAGE")
QEMU_MERGE_ZLIB = tool("qemu-img convert -f qcow2 -O qcow2 -c -W -m 16 -o compression_type=zlib TOP IMAGE")

# A contest is a list of tools, mkqcow2 first.
PLAIN = (MKQCOW2, QEMU, QEMU_PARALLEL, CP)
SYNCED = (MKQCOW2_SYNCED, QEMU_SYNCED)
PACKED_ZSTD = (MKQCOW2_ZSTD, MKQCOW2_ZSTD_1, QEMU_PACK_ZSTD, ZSTD)
PACKED_ZLIB = (MKQCOW2_ZLIB, QEMU_PACK_ZLIB)
RESTORED = (RESTORE, QEMU_RESTORE, QEMU_RESTORE_PARALLEL)

IMAGING = Work("", ("SOURCE",), "IMAGE", prove_bytes)
IMAGING_ZSTD = Work("", ("SOURCE",), "IMAGE", partial(prove_compressed, "zstd"))
IMAGING_ZLIB = Work("", ("SOURCE",), "IMAGE", partial(prove_compressed, "zlib"))
IMAGING_EMPTY = Work("", ("SOURCE",), "IMAGE", prove_metadata)
SCANNING = Work("", ("SOURCE",), None, prove_scan)
IMAGING_EXT4 = Work("", ("SOURCE",), "IMAGE", prove_used_blocks)
IMAGING_XFS = Work("", ("SOURCE",), "IMAGE", prove_used_of_xfs)
SCANNING_XFS = Work("", ("SOURCE",), None, prove_scan_of_xfs)
IMAGING_BTRFS = Work("", ("SOURCE",), "IMAGE", prove_used_of_btrfs)
SCANNING_BTRFS = Work("", ("SOURCE",), None, prove_scan_of_btrfs)
IMAGING_LVM = Work("", ("SOURCE",), "IMAGE", prove_used_of_volume)
RESTORING = Work("restore", ("IMAGE",), "TARGET", prove_restored)
CONVERTING = Work("", ("IMAGE",), "TARGET", prove_converted)
CHECKING = Work("check", ("IMAGE",), None, prove_check)
COMPARING = Work("compare", ("IMAGE", "SOURCE"), None, prove_compare)
VERIFYING = Work("verify", ("IMAGE",), None, prove_verify)
INCREMENTING = Work("", ("SOURCE", "BASE"), "IMAGE", prove_differences)
INCREMENTING_BYTES = Work("", ("SOURCE", "BASE"), "IMAGE", prove_bytes)
MERGING = Work("merge", ("BASE", "TOP"), "IMAGE", prove_merged)


@dataclass(frozen=True)
class Case:
    """A source, the work on it, and the contests that are held, by their titles; `images` are the tools that make
    beforehand what is read, if that is not the SOURCE alone, then `change` changes the SOURCE, and `later` are those
    that make the rest of it. `needs` and `options` are what programs and what options of mkqcow2 it takes.
    """

    build: Callable[[Path, float], None]
    work: Work
    contests: dict[str, tuple[Tool, ...]]
    images: tuple[Tool, ...] = ()
    needs: tuple[str, ...] = ("qemu-img",)
    options: tuple[str, ...] = ()
    needs_root: bool = False
    change: Callable[[Path], None] | None = None
    later: tuple[Tool, ...] = ()


def restore_case(build: Callable[[Path, float], None], title: str, image: Tool, *yardsticks: Tool) -> Case:
    """The case of an image that qemu-img made of a source and that is brought back."""
    return Case(build, RESTORING, {title: (*RESTORED, *yardsticks)}, (image,))


def merge_case(title: str, base: Tool, top: Tool, rival: Tool) -> Case:
    """The case of two images, of which the upper one has 1 % of the clusters, that become one."""
    contests = {title: (MERGE, rival)}
    return Case(build_tar, MERGING, contests, (base,), options=("--base",), change=change_clusters, later=(top,))


EXT4_TOOLS = ("mkfs.ext4", "dumpe2fs", "mount", "umount")
LVM_NEEDS = ("qemu-img", *EXT4_TOOLS, "sfdisk", "losetup", "lvcreate")
XFS_TOOLS = ("mkfs.xfs", "xfs_db", "mount", "umount")
XFS_NEEDS = ("qemu-img", "partclone.xfs", "xfs_copy", *XFS_TOOLS)
XFS_RIVALS = (*PLAIN, PARTCLONE_XFS, XFS_COPY)
BTRFS_TOOLS = ("mkfs.btrfs", "btrfs", "mount", "umount")
BTRFS_NEEDS = ("qemu-img", "partclone.btrfs", *BTRFS_TOOLS)
BTRFS_RIVALS = (*PLAIN, PARTCLONE_BTRFS)
EXT4_NEEDS = ("qemu-img", "e2image", "partclone.extfs", *EXT4_TOOLS)
EXT4_RIVALS = (*PLAIN, E2IMAGE, PARTCLONE)
EXT4_CONTESTS = {"ext4": EXT4_RIVALS, "ext4, 4K": (MKQCOW2_4K, QEMU, E2IMAGE, PARTCLONE)}
MOUNT_CONTESTS = {
    "mount, zstd, sequential": SEQUENTIAL,
    "mount, zstd, random within": WITHIN,
    "mount, zstd, random": BEYOND,
    "mount, zstd, random, 4 readers": BEYOND_4,
}
COMPRESS, DEDUPE = ("--compress",), ("--compress", "--dedupe")
INCREMENTAL, INCREMENTAL_NEEDS = ("--base", "--digests"), ("qemu-img", *EXT4_TOOLS)
INCREMENT_CONTESTS = {
    "incremental": (INCREMENT, MKQCOW2, QEMU),
    "incremental, by bytes": (INCREMENT_BY_BYTES, MKQCOW2, QEMU),
    "incremental, zstd": (INCREMENT_ZSTD, MKQCOW2_ZSTD, QEMU_PACK_ZSTD),
}
FORMAT = ("--source-format",)

CASES = {
    "random": Case(build_random, IMAGING, {"random": PLAIN, "random, synced": SYNCED}),
    "text": Case(build_text, IMAGING, {"text": PLAIN}),
    "ext4": Case(build_ext4, IMAGING_EXT4, EXT4_CONTESTS, needs=EXT4_NEEDS, needs_root=True),
    "scan": Case(build_vast, SCANNING, {"scan": (SCAN,)}, needs=EXT4_TOOLS, needs_root=True),
    "xfs": Case(build_xfs, IMAGING_XFS, {"xfs": XFS_RIVALS}, needs=XFS_NEEDS, needs_root=True),
    "scan-xfs": Case(build_vast_xfs, SCANNING_XFS, {"scan, xfs": (SCAN,)}, needs=XFS_TOOLS, needs_root=True),
    "btrfs": Case(build_btrfs, IMAGING_BTRFS, {"btrfs": BTRFS_RIVALS}, needs=BTRFS_NEEDS, needs_root=True),
    "scan-btrfs": Case(
        build_vast_btrfs, SCANNING_BTRFS, {"scan, btrfs": (SCAN,)}, needs=BTRFS_TOOLS, needs_root=True
    ),
    "lvm": Case(build_lvm, IMAGING_LVM, {"lvm": PLAIN}, needs=LVM_NEEDS, needs_root=True),
    "sparse": Case(build_sparse, IMAGING, {"sparse": PLAIN}),
    "empty": Case(build_empty, IMAGING_EMPTY, {"empty": PLAIN}),
    "zstd": Case(build_tar, IMAGING_ZSTD, {"zstd": PACKED_ZSTD}, needs=("qemu-img", "zstd"), options=COMPRESS),
    "zlib": Case(build_tar, IMAGING_ZLIB, {"zlib": PACKED_ZLIB}, options=COMPRESS),
    "zstd-random": Case(build_random, IMAGING, {"zstd, random": (MKQCOW2_ZSTD_3, MKQCOW2)}, options=COMPRESS),
    "dedupe": Case(build_repeated, IMAGING_ZSTD, {"dedupe": (MKQCOW2_DEDUPE, MKQCOW2_ZSTD)}, options=DEDUPE),
    "stdout": Case(build_random, IMAGING, {"stdout": (MKQCOW2_PIPED, MKQCOW2)}, needs=("qemu-img", "bash")),
    "restore-random": restore_case(build_random, "restore, random", QEMU, CP_IMAGE),
    "restore-text": restore_case(build_text, "restore, text", QEMU, CP_IMAGE),
    "restore-zstd": restore_case(build_text, "restore, zstd", QEMU_ZSTD),
    "restore-zlib": restore_case(build_text, "restore, zlib", QEMU_ZLIB),
    "qed": Case(build_text, CONVERTING, {"qed": (CONVERT_QED, QEMU_CONVERT_QED)}, (QEMU_QED,), options=FORMAT),
    "qcow": Case(build_text, CONVERTING, {"qcow": (CONVERT_QCOW, QEMU_CONVERT_QCOW)}, (QEMU_QCOW,), options=FORMAT),
    "check": Case(build_large, CHECKING, {"check": (CHECK, QEMU_CHECK)}, (QEMU_4K,)),
    "compare": Case(build_text, COMPARING, {"compare": (COMPARE, QEMU_COMPARE)}, (QEMU_ZSTD,)),
    "verify": Case(build_random, VERIFYING, {"verify": (VERIFY, CKSUM)}, (MKQCOW2,)),
    "mount": Case(
        build_random, MOUNTING, {"mount, sequential": SEQUENTIAL}, (MKQCOW2,), needs=MOUNT_NEEDS, needs_root=True
    ),
    "mount-zstd": Case(
        build_text, MOUNTING, MOUNT_CONTESTS, (MKQCOW2_ZSTD,), needs=MOUNT_NEEDS, options=COMPRESS, needs_root=True
    ),
    "incremental": Case(
        build_ext4,
        INCREMENTING,
        INCREMENT_CONTESTS,
        (BASE, PLAIN_BASE),
        needs=INCREMENTAL_NEEDS,
        options=INCREMENTAL,
        needs_root=True,
        change=change_files,
    ),
    "incremental-thin": Case(
        build_thin,
        INCREMENTING_BYTES,
        {"incremental, thin": (INCREMENT, MKQCOW2)},
        (BASE,),
        options=INCREMENTAL,
        change=change_clusters,
    ),
    "merge-zstd": merge_case("merge, zstd", BASE_ZSTD, TOP_ZSTD, QEMU_MERGE_ZSTD),
    "merge-zlib": merge_case("merge, zlib", BASE_ZLIB, TOP_ZLIB, QEMU_MERGE_ZLIB),
}
