"""Tools that do the same work in turn, and what each run of them takes."""

import os
import select
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from corpus import GIB, KIB, MIB, data_ranges, fail
from memory import touch_free_memory

# Where things are: MKQCOW2 the binary, SOURCE a raw disk, IMAGE one in qcow2, BASE and PLAIN
# what one stands on, TOP what is merged, TARGET one brought back, LOG what is said meanwhile.
Places = dict[str, Path]


@dataclass(frozen=True)
class Tool:
    """A command to measure; the names of places among its words stand for their paths."""

    name: str
    words: tuple[str, ...]

    @property
    def is_own(self) -> bool:
        """Whether it is mkqcow2, in whatever way it is called."""
        return "MKQCOW2" in self.words

    def argv(self, places: Places) -> list[str]:
        """The words with the paths filled in."""
        return [str(places.get(word, word)) for word in self.words]


def tool(line: str) -> Tool:
    """The tool whose command is `line` and whose name is the same without the places and their formats."""
    words = line.split()
    left_out = ("SOURCE", "IMAGE", "TARGET", "-f", "-F", "-O", "raw", "qcow2")
    shown = (word for word in words if word not in left_out)
    return Tool(" ".join(shown).replace("MKQCOW2", "mkqcow2"), tuple(words))


@dataclass(frozen=True)
class Work:
    """What the tools of a contest do: the verb of mkqcow2, the places read, the one written, if any, and
    what stops unless mkqcow2 did it right.
    """

    verb: str
    reads: tuple[str, ...]
    writes: str | None
    prove: Callable[[Places], None]


@dataclass(frozen=True)
class Run:
    """One run: wall and CPU time in seconds, peak resident memory in bytes; status None if it was stopped."""

    wall: float
    cpu: float
    peak: int
    status: int | None


def measure(argv: list[str], log: Path, timeout: float) -> Run:
    """Runs a command to its end, or for `timeout` seconds; its messages go to `log`."""
    ended = False
    with log.open("wb") as messages:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, start_new_session=True
        )
        descriptor = os.pidfd_open(process.pid)
        try:
            ended = bool(select.select([descriptor], [], [], timeout)[0])
        finally:
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
            # The usage of a shell includes the children it waited for: their CPU time is added to its
            # own, its peak is that of the largest single process.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            os.close(descriptor)
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss * KIB, process.returncode if ended else None)


@dataclass
class Result:
    """The counted runs of a tool in one contest, the size in bytes of what it wrote, and why it was taken out."""

    runs: list[Run] = field(default_factory=list)
    size: int | None = None
    allocated: int | None = None
    late: bool = False
    failure: str = ""

    @property
    def out(self) -> bool:
        """Whether it was taken out, so that no number of it counts."""
        return self.late or bool(self.failure)

    @property
    def wall(self) -> float:
        """Median, in seconds."""
        return statistics.median(run.wall for run in self.runs)

    @property
    def peak(self) -> int:
        """The largest of all runs, in bytes."""
        return max(run.peak for run in self.runs)


class Contest:
    """Tools that do one work in turn."""

    def __init__(self, work: Work, tools: tuple[Tool, ...], places: Places, timeout: float, touched: int) -> None:
        self.work = work
        self.places = places
        self.read = {name: places[name].stat() for name in work.reads}
        self.timeout = timeout
        self.touched = touched
        self.results = {tool: Result() for tool in tools}

    @property
    def own(self) -> Result:
        """The result of mkqcow2."""
        return next(iter(self.results.values()))

    def ratio(self, tool: Tool) -> float | None:
        """The wall time of mkqcow2 to that of `tool`, the median over the rounds; an upper bound if that was late."""
        result = self.results[tool]
        if self.own.out or result.failure:
            return None
        if result.late:
            return self.own.wall / self.timeout
        return statistics.median(own.wall / other.wall for own, other in zip(self.own.runs, result.runs))

    def size_ratio(self, tool: Tool) -> float | None:
        """The size of what mkqcow2 wrote to that of what `tool` did."""
        result = self.results[tool]
        return None if self.own.out or result.out else self.own.size / result.size

    @property
    def rate(self) -> float | None:
        """The bytes that mkqcow2 reads in a second, the median over the rounds; holes do not count."""
        return None if self.own.out else sum(status.st_blocks * 512 for status in self.read.values()) / self.own.wall

    def warm_up(self) -> None:
        """The round that is not counted: keeps the sizes of what is written, and proves what mkqcow2 did."""
        for tool, result in self.results.items():
            if not self.run(tool):
                continue
            if self.work.writes:
                os.sync()  # Until blocks are allocated, what a file takes is a guess.
                status = self.places[self.work.writes].stat()
                result.size, result.allocated = status.st_size, status.st_blocks * 512
            if tool.is_own:
                self.work.prove(self.places)

    def count(self, number: int) -> None:
        """A counted round; each begins with another tool."""
        tools = list(self.results)
        first = number % len(tools)
        for tool in tools[first:] + tools[:first]:
            run = self.run(tool)
            if run:
                self.results[tool].runs.append(run)

    def run(self, tool: Tool) -> Run | None:
        """One run from a warm cache, no writeback pending; None if the tool is out, now or before."""
        result = self.results[tool]
        if result.out:
            return None
        if self.work.writes:
            self.places[self.work.writes].unlink(missing_ok=True)
        os.sync()
        for name in self.work.reads:
            read_data(self.places[name])
        touch_free_memory(self.touched)
        run = measure(tool.argv(self.places), self.places["LOG"], self.timeout)
        if run.status == 0:
            return run
        if run.status is None:
            result.late = True
        else:
            said = self.places["LOG"].read_text(errors="replace").strip()
            result.failure = f"failed with status {run.status}: {said[-400:]}"
            if tool.is_own:
                fail(f"{tool.name}: {result.failure}")
        return None


def read_data(path: Path) -> None:
    """Reads a file, its holes aside, so that it is cached even if the tool before dropped it."""
    with path.open("rb", buffering=0) as file:
        for start, end in data_ranges(file):
            while start < end:
                start += len(os.pread(file.fileno(), min(MIB, end - start), start))
