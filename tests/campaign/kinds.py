"""The kinds of faults. Each takes a run of its own, drawn at random, and tells how it ended."""

import os
import signal
import subprocess
import threading
import time

from . import jobs, world
from .jobs import FAILED, RIGHT, TOLD, Disks, Job, require, sane
from .world import KIB, MIB

CALLS = (
    "open openat read pread64 preadv write pwrite64 pwritev fallocate fsync fdatasync syncfs linkat renameat renameat2 "
    "rename close ftruncate lseek getdents64 ioctl statx newfstatat fstatfs flock fadvise64 copy_file_range"
).split()
ERRORS = ["EIO", "EIO", "ENOSPC", "EMFILE", "ENOMEM", "EINTR"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


class Case:
    """What a kind of fault works with."""

    def __init__(self, place, disks, directory, random):
        self.place = place
        self.disks = disks
        self.directory = directory
        self.random = random
        self.command = []
        self.note = ""

    def run(self, command):
        self.command = command
        return self.place.run(command, self.directory)

    def start(self, command):
        self.command = command
        return self.place.start(command, self.directory)

    def profile(self, job):
        """How long a run without a fault takes, and how often each of its threads calls what at most.

        Every kind of run is tried once in a directory of its own."""
        return PROFILES.of(self, job)


class Profiles:
    def __init__(self):
        self.known = {}
        self.lock = threading.Lock()

    def of(self, case, job):
        words = [word for word in job.command() if not word.startswith("/dev/loop")]
        key = " ".join(words).replace(case.directory, ""), job.real == job.seen
        with self.lock:
            if key not in self.known:
                self.known[key] = self.measure(case, job)
            return self.known[key]

    @staticmethod
    def measure(case, job):
        trace = os.path.join(case.directory, "trace")
        begun = time.monotonic()
        case.place.run(job.command(), case.directory)
        seconds = time.monotonic() - begun
        restore(job)
        case.place.run(["strace", "-f", "-qq", "-o", trace, *job.command()], case.directory)
        restore(job)
        with open(trace, encoding="utf-8", errors="replace") as file:
            calls = count(file)
        os.unlink(trace)
        return seconds, calls


PROFILES = Profiles()


def restore(job):
    """Makes the target again what it was: where it is seen, for FUSE remembers names for a second."""
    if job.to_device:
        return
    path = os.path.join(job.seen, job.target)
    if job.old is not None:
        world.write(path, job.old)
    elif os.path.exists(path):
        os.unlink(path)


def count(trace):
    """For each call: how often the loader makes it, and how often the thread makes it that makes it most."""
    totals, loader, leader, is_loading = {}, {}, None, True
    for line in trace:
        thread, _, text = line.partition(" ")
        call = text.strip().partition("(")[0]
        leader = leader or thread
        # The first thing that a Rust program does for itself.
        if call == "poll":
            is_loading = False
        if not call.isidentifier():
            continue
        of_thread = totals.setdefault(call, {})
        of_thread[thread] = of_thread.get(thread, 0) + 1
        if is_loading and thread == leader:
            loader[call] = loader.get(call, 0) + 1
    return {call: (loader.get(call, 0) if not is_loading else 0, max(n.values())) for call, n in totals.items()}


def draw_call(case, calls):
    """A call that the run makes, and which of them; none of the loader, which knows no clean failure."""
    known = [call for call in CALLS if call in calls and calls[call][1] > calls[call][0]]
    call = case.random.choice(known)
    loader, most = calls[call]
    return call, case.random.randint(loader + 1, most)


def strace(fault, command):
    call = fault.partition(":")[0]
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={fault}", *command]


def catches(process, number):
    """True if the program has installed its own end for a signal."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            masks = [line.split()[1] for line in file if line.startswith("SigCgt:")]
    except OSError:
        return False
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)


def interrupted(case, job, number):
    """Sends a signal at a random moment; returns how it ended, and whether the signal was handled."""
    seconds, calls = case.profile(job)
    moment = case.random.random()
    call, when = draw_call(case, calls)
    if case.random.random() < 0.5:
        name = signal.Signals(number).name
        return case.run(strace(f"{call}:signal={name}:when={when}", job.command())), False
    case.note = f"{signal.Signals(number).name} after {moment:.3f} of {seconds:.3f} s"
    process = case.start(job.command())
    time.sleep(moment * seconds)
    handled = catches(process, number)
    try:
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)
    except ProcessLookupError:
        pass
    return case.place.wait(process, case.directory), handled


def kill(case):
    """SIGKILL at a random moment: the old or the new one, and the next run removes what is left."""
    job = jobs.any_job(case.disks, case.directory, case.random, case.place)
    ran, _ = interrupted(case, job, signal.SIGKILL)
    sane(ran)
    require(ran.status in (-signal.SIGKILL, 0), f"status {ran.status}: {ran.said}")
    is_new = job.old_or_new()
    require(ran.status != 0 or is_new, "status 0, and it is not right")
    if "--no-clobber" in job.options or job.is_merge():
        restore(job)
    job.next_run(case.place)
    return RIGHT if ran.status == 0 else FAILED


def stop(case):
    """A signal that can be handled: nothing is left at once, and it is told what there is."""
    number = case.random.choice(SIGNALS)
    job = jobs.any_job(case.disks, case.directory, case.random, case.place)
    ran, handled = interrupted(case, job, number)
    sane(ran)
    require(ran.status in (-number, 0), f"status {ran.status}: {ran.said}")
    is_new = job.old_or_new()
    job.no_leftovers()
    if ran.status == 0:
        require(is_new, "status 0, and it is not right")
        return RIGHT
    says_stopped = f"stopped by {signal.Signals(number).name}" in ran.said
    require(says_stopped or not handled or is_new, "dies without a word")
    if says_stopped and not (job.to_device or job.is_stream):
        require("not written" not in ran.said or not is_new, f"is the new one, and it says: {ran.said}")
        require("complete already" not in ran.said or is_new, f"is not the new one, and it says: {ran.said}")
    return FAILED


def full(case):
    """A filesystem without enough room."""
    job = jobs.target_job(case.disks, case.directory, case.random)
    room = os.path.getsize(job.expected)
    taken = sum(map(len, job.beside.values())) + len(job.old or b"") if job.is_merge() else 0
    point = os.path.join(case.directory, "small")
    if job.old is not None:
        os.unlink(job.path())
    if case.random.random() < 0.5:
        size = (taken * 9 // 8 + case.random.randint(16 * KIB, room * 5 // 4)) // 4096 * 4096
        case.place.mount("tmpfs", point, "-t", "tmpfs", "-o", f"size={size}")
    else:
        size = (taken * 9 // 8 + case.random.randint(MIB, room * 3 // 2 + MIB)) // 4096 * 4096
        file = world.sparse(os.path.join(case.directory, "filesystem"), size)
        world.must(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", file])
        case.place.mount(file, point, "-o", "loop")
    case.note = f"in {size} bytes"
    job.real = job.seen = point
    if job.old is not None:
        job.with_old()
    ran = case.run(job.command())
    outcome = job.judge(ran)
    require(outcome != FAILED or "No space left" in ran.said, f"failed, and not for want of room: {ran.said}")
    return outcome


def inject(case):
    """A system call that fails."""
    draw = case.random.random()
    if draw < 0.3:
        return inject_reader(case)
    job = jobs.any_job(case.disks, case.directory, case.random, case.place)
    fault = injection(case, job)
    ran = case.run(strace(fault, job.command()))
    return job.judge(ran, can_speak(fault))


def can_speak(fault):
    """Messages go out by the call write, which may be the one that fails."""
    return not fault.startswith("write:")


def injection(case, job):
    _, calls = case.profile(job)
    call, when = draw_call(case, calls)
    error = case.random.choice(ERRORS)
    # A call that is interrupted is made again, and would be for ever.
    then = case.random.choice(["", "", "+"]) if error != "EINTR" else ""
    return f"{call}:error={error}:when={when}{then}"


def inject_reader(case):
    """The same of verify, check and compare, of an image that is right or has one byte damaged."""
    name = case.random.choice(list(Disks.IMAGES))
    job = Job(case.disks, case.directory, name).create(name)
    job.target = f"{name}.qcow2"
    content = world.read(job.expected)
    is_damaged = case.random.random() < 0.5
    if is_damaged:
        # The last byte of data that is stored is told by the checksums alone.
        at = data_in(content, case.random)
        content = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
    image = os.path.join(case.directory, job.target)
    job.on_bases(name).old = content
    job.put()
    verb = case.random.choice(["verify", "check", "compare"])
    words = [case.disks.binary, verb, image] + ([job.input] if verb == "compare" else [])
    job.command = lambda: words
    fault = injection(case, job)
    ran = case.run(strace(fault, words))
    sane(ran)
    require(world.read(image) == content, f"{verb} wrote to the image")
    is_bad = is_damaged and verb != "check"
    if ran.status == 0:
        require(not is_bad, "status 0 of an image that is damaged")
        return RIGHT
    require(ran.said or not can_speak(fault), "failed without a word")
    could_not = 2 if verb == "compare" else 1
    require(ran.status == could_not or is_damaged, f"status {ran.status} of an image that is right: {ran.said}")
    require(ran.status in (1, 2, 3), f"status {ran.status}")
    return FAILED


def data_in(content, random):
    """An offset of a byte that is data: one of noise, behind the tables at the beginning."""
    while True:
        at = random.randrange(len(content) // 4, len(content) // 2)
        if len(set(content[at - 32 : at + 32])) > 40:
            return at


FILESYSTEMS = {
    "ext2": (["mke2fs", "-q", "-F", "-t", "ext2"], 32, ""),
    "ext4": (["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"], 64, ""),
    "ext4 without journal": (
        ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=0"], 32, ""),
    "xfs": (["mkfs.xfs", "-q"], 320, ",nouuid"),
    "btrfs": (["mkfs.btrfs", "-q"], 160, ""),
}


def crash(case):
    """The power fails at a random moment during the run or after it."""
    kind = case.random.choice(list(FILESYSTEMS))
    make, size, options = FILESYSTEMS[kind]
    file = world.sparse(os.path.join(case.directory, "filesystem"), size * MIB)
    world.must([*make, file])
    point = case.place.mount(file, os.path.join(case.directory, "mnt"), "-o", f"loop{options}")
    job = jobs.target_job(case.disks, case.directory, case.random)
    job.options = [option for option in job.options if option != "--no-sync"]
    if job.old is not None:
        os.unlink(job.path())
    job.real = job.seen = point
    if job.old is not None:
        job.with_old()
    world.must(["sync", "-f", point])
    copy = os.path.join(case.directory, "copy")
    ran = cut(case, job, file, copy, kind)
    case.place.unmount(point)
    os.unlink(file)
    if kind.startswith("ext"):
        done = subprocess.run(["e2fsck", "-fy", copy], capture_output=True, check=False)
        require(done.returncode in (0, 1), f"{kind}: e2fsck ends with {done.returncode}: {done.stdout.decode()}")
    case.place.mount(copy, point, "-o", f"loop{options}")
    is_new = job.old_or_new()
    if ran is not None:
        require(ran.status == 0, f"status {ran.status}: {ran.said}")
        require(is_new, f"{kind}: lost after status 0: {jobs.look(job.path())}")
    restore(job)
    job.next_run(case.place)
    return RIGHT if is_new else FAILED


def cut(case, job, file, copy, kind):
    """Copies the disk; tells how the run ended if it had ended by then."""
    # Each sync and each new name takes so long that many moments lie next to one.
    slow = "fsync,fdatasync,syncfs,linkat,renameat,renameat2:delay_enter=20000:delay_exit=20000"
    seconds = 0.08 + 0.04 * 15
    command = strace(slow, job.command()) if case.random.random() < 0.6 else job.command()
    if command[0] != "strace":
        seconds = 0.15
    moment = case.random.random() * 1.3
    syncs = case.random.random() < 0.4
    case.note = f"{kind}, cut after {moment * seconds:.3f} s{', directory synced' if syncs else ''}"
    process = case.start(command)
    try:
        process.wait(moment * seconds)
    except subprocess.TimeoutExpired:
        pass
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGSTOP)
    if syncs:
        world.sync_directory(job.real)
    world.copy_at_rest(file, copy)
    ran = case.place.wait(process, case.directory) if ended else None
    if not ended:
        world.end(process)
        case.place.wait(process, case.directory)
    return ran


def damage(case):
    """An image that was damaged: never wrong bytes with status 0."""
    name = case.random.choice(list(Disks.IMAGES))
    job = Job(case.disks, case.directory, name).restore(name)
    # One of those that it stands on may be the one.
    names = [name, *case.disks.bases(name)]
    damaged = case.random.choice(names)
    for other in names:
        content = bytearray(world.read(case.disks.image(other)))
        if other == damaged:
            case.note = f"{other}: {spoil(content, case.random)}"
        world.write(os.path.join(case.directory, f"{other}.qcow2"), content)
    job.input = image = os.path.join(case.directory, f"{name}.qcow2")
    if case.random.random() < 0.5:
        job.with_old()
    keeps_going = case.random.random() < 0.2
    if keeps_going:
        job.options.append("--keep-going")
    verify = [case.disks.binary, "verify", image]
    verified = case.run(verify)
    sane(verified)
    check = case.place.run([case.disks.binary, "check", "--data", image], case.directory)
    sane(check)
    ran = case.run(job.command())
    sane(ran)
    job.no_leftovers()
    if ran.status == 0:
        require(job.is_new(), f"status 0, and {job.target} is not right")
        return RIGHT
    if ran.status == 3:
        require("warning" in ran.said or keeps_going and ran.said, "status 3 without a word")
        require(keeps_going or job.is_new(), f"status 3, and {job.target} is not right: {ran.said}")
        require(os.path.exists(job.path()) and not job.is_old(), "status 3, and nothing is there")
        return TOLD
    require(ran.status == 1, f"status {ran.status}: {ran.said}")
    require(ran.said, "failed without a word")
    require(job.is_old(), f"status 1, and {job.target} was touched")
    require(verified.status != 0, f"verify found nothing wrong, and restore says {ran.said}")
    return FAILED


def spoil(content, random):
    """Flips, fills, moves or cuts off bytes; mostly where an image tells of itself."""
    size = len(content)
    area = random.choice([(0, 512), (0, min(size, 5 * 64 * KIB)), (max(0, size - 4 * KIB), size), (0, size)])
    at = random.randrange(*area)
    how = random.choice(["flip", "flip", "flips", "fill", "copy", "cut"])
    length = min(random.choice([1, 8, 512, 4096, 64 * KIB, random.randint(1, size)]), size - at)
    if how == "flip":
        content[at] ^= 1 << random.randrange(8)
    elif how == "flips":
        for _ in range(random.randint(2, 50)):
            content[random.randrange(*area)] ^= random.randint(1, 255)
    elif how == "fill":
        byte = random.choice([0, 0xFF, random.randrange(256)])
        content[at : at + length] = bytes([byte]) * length
    elif how == "copy":
        source = random.randrange(size - length + 1)
        content[at : at + length] = content[source : source + length]
    else:
        del content[at:]
    return f"{how} at {at:#x} in {area[0]:#x} to {area[1]:#x}, {length} bytes"


KINDS = {"kill": kill, "signal": stop, "full": full, "inject": inject, "crash": crash, "damage": damage}
# How often each kind is drawn.
ORDER = "inject kill damage signal inject full damage inject kill crash".split()
