"""What mkqcow2 is to reach in the contests of benches/versus."""

from cases import (
    E2IMAGE,
    MKQCOW2,
    MKQCOW2_ZSTD,
    PARTCLONE,
    PARTCLONE_BTRFS,
    PARTCLONE_XFS,
    QEMU,
    QEMU_CHECK,
    QEMU_COMPARE,
    QEMU_CONVERT_QCOW,
    QEMU_CONVERT_QED,
    QEMU_MERGE_ZLIB,
    QEMU_MERGE_ZSTD,
    QEMU_PACK_ZLIB,
    QEMU_PACK_ZSTD,
    QEMU_RESTORE_PARALLEL,
    QEMU_SYNCED,
    XFS_COPY,
    ZSTD,
)
from contest import Contest, Tool
from corpus import CLUSTER, L2_ENTRIES, MIB, sparse_places
from mounts import BEYOND, BEYOND_4, SEQUENTIAL, WITHIN

# The wall time of mkqcow2 to that of a rival, at most: contest, rival, limit. A rival may be mkqcow2 itself.
WALLS = (
    ("random", QEMU, 0.70),
    ("random, synced", QEMU_SYNCED, 0.90),
    ("ext4", QEMU, 0.45),
    ("ext4", E2IMAGE, 0.40),
    ("ext4", PARTCLONE, 0.10),
    ("ext4, 4K", QEMU, 0.45),
    ("ext4, 4K", E2IMAGE, 0.40),
    ("ext4, 4K", PARTCLONE, 0.10),
    ("xfs", QEMU, 0.45),
    ("xfs", PARTCLONE_XFS, 0.15),
    ("xfs", XFS_COPY, 0.60),
    ("btrfs", QEMU, 0.50),
    ("btrfs", PARTCLONE_BTRFS, 0.12),
    ("lvm", QEMU, 0.50),
    ("sparse", QEMU, 0.30),
    ("zstd", QEMU_PACK_ZSTD, 0.75),
    ("zstd", ZSTD, 1.15),
    ("zlib", QEMU_PACK_ZLIB, 0.55),
    ("zstd, random", MKQCOW2, 1.50),
    ("dedupe", MKQCOW2_ZSTD, 1.05),
    ("restore, random", QEMU_RESTORE_PARALLEL, 0.90),
    ("restore, text", QEMU_RESTORE_PARALLEL, 0.90),
    ("restore, zstd", QEMU_RESTORE_PARALLEL, 0.65),
    ("restore, zlib", QEMU_RESTORE_PARALLEL, 0.45),
    ("qed", QEMU_CONVERT_QED, 0.80),
    ("qcow", QEMU_CONVERT_QCOW, 0.80),
    ("check", QEMU_CHECK, 0.50),
    ("compare", QEMU_COMPARE, 0.40),
    ("incremental", MKQCOW2, 0.60),
    ("incremental", QEMU, 0.20),
    ("incremental, by bytes", QEMU, 0.20),
    ("incremental, zstd", MKQCOW2_ZSTD, 0.60),
    ("incremental, zstd", QEMU_PACK_ZSTD, 0.20),
    ("merge, zstd", QEMU_MERGE_ZSTD, 0.30),
    ("merge, zlib", QEMU_MERGE_ZLIB, 0.30),
    ("mount, sequential", SEQUENTIAL[1], 1.40),
    ("mount, zstd, sequential", SEQUENTIAL[1], 1.40),
    ("mount, zstd, random within", WITHIN[1], 0.65),
    ("mount, zstd, random", BEYOND[1], 0.65),
    ("mount, zstd, random, 4 readers", BEYOND_4[1], 0.65),
)

# The size of what mkqcow2 writes to that of what a rival does, at most.
SIZES = (
    ("ext4", E2IMAGE, 1.01),
    ("ext4, 4K", E2IMAGE, 1.01),
    ("zstd", QEMU_PACK_ZSTD, 1.00),
    ("zlib", QEMU_PACK_ZLIB, 1.02),
    ("dedupe", MKQCOW2_ZSTD, 0.75),
)

# The peak memory of mkqcow2, at most, in MiB: one that compresses has buffers and tables for each worker.
PLAIN_PEAK, COMPRESSING_PEAK = 128, 192


class Targets:
    """The lines of the targets, each with what was measured."""

    def __init__(self, contests: dict[str, Contest]) -> None:
        self.contests = contests
        self.lines: list[tuple[str, str, str, str]] = []

    def add(
        self, name: str, measured: float | None, limit: float, unit: str = "", digits: int = 2, least: bool = False
    ) -> None:
        """A line: the target, its bound, what was measured and whether that is within."""
        met = measured is not None and (measured >= limit if least else measured <= limit)
        shown = "no result" if measured is None else f"{measured:.{digits}f}{unit}"
        bound = f"{'>=' if least else '<='} {limit:.{digits}f}{unit}"
        self.lines.append((name, bound, shown, "met" if met else "missed"))

    def add_ratios(self) -> None:
        """The targets to a rival, in wall time and in size."""
        for title, rival, limit in WALLS:
            if title in self.contests:
                self.add(f"{title}: wall to {rival.name}", self.contests[title].ratio(rival), limit)
        for title, rival, limit in SIZES:
            if title in self.contests:
                self.add(f"{title}: size to {rival.name}", self.contests[title].size_ratio(rival), limit, digits=3)

    def add_absolutes(self, scale: float) -> None:
        """The targets of a single contest that stand without a rival."""
        if "verify" in self.contests:
            rate = self.contests["verify"].rate
            self.add("verify: read in a second", rate and rate / 1e9, 3, " GB", 1, least=True)
        if "sparse" in self.contests:
            # Touched are the clusters with data and those of the L2 tables that no image can do without.
            places = sparse_places(scale)
            touched = len(places) + len({place // L2_ENTRIES for place in places})
            own = self.contests["sparse"].own
            size = None if own.out else own.size / MIB
            self.add("sparse: image to clusters touched + 0.1 %", size, touched * CLUSTER * 1.001 / MIB, " MiB")
        for title, limit in (("empty", 10), ("scan", 3), ("scan, xfs", 5), ("scan, btrfs", 3)):
            if title in self.contests:
                own = self.contests[title].own
                self.add(f"{title}: wall", None if own.out else own.wall, limit, " s")

    def add_peaks(self) -> None:
        """The targets of memory, over all runs of mkqcow2; there is none with --dedupe, whose memory is an option."""
        for name, limit in (("not compressing", PLAIN_PEAK), ("compressing", COMPRESSING_PEAK)):
            results = [
                result
                for contest in self.contests.values()
                for tool, result in contest.results.items()
                if peak_limit(tool) == limit
            ]
            if results:
                peak = None if any(result.out for result in results) else max(result.peak for result in results)
                self.add(f"all {name}: largest peak", peak and peak / MIB, limit, " MiB", 1)


def peak_limit(tool: Tool) -> int | None:
    """The limit of a tool's peak memory in MiB, if it has one."""
    if not tool.is_own or "--dedupe" in tool.words:
        return None
    return COMPRESSING_PEAK if "-c" in tool.words and tool.words[0] == "MKQCOW2" else PLAIN_PEAK


def print_targets(contests: dict[str, Contest], scale: float) -> None:
    """Prints the targets of the contests that were held, each with what was measured."""
    print("\ntargets" + ("" if scale == 1 else f" (set for --scale 1; this is {scale:g})"))
    targets = Targets(contests)
    targets.add_ratios()
    targets.add_absolutes(scale)
    targets.add_peaks()
    widths = [max(map(len, column)) for column in zip(*targets.lines)]
    for name, limit, shown, met in targets.lines:
        print(f"  {name:<{widths[0]}}  {limit:>{widths[1]}}  {shown:>{widths[2]}}  {met}")
