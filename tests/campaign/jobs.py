"""The work that mkqcow2 is given, and the promises that it is held to."""

import os
import subprocess
import time

from . import world
from .world import KIB, MIB

OLD = b"QFI\xfb\0\0\0\x03, that of the night before"

FAILED, RIGHT, TOLD, WRONG = "failed cleanly", "right", "told (3)", "WRONG"


class Broken(Exception):
    """A promise was broken."""


class Disks:
    """The sources of all runs, and the images that runs without a fault make of them."""

    # Name of an image: options, source, the image that it stands on.
    IMAGES = {
        "plain": ([], "noise", None),
        "zstd": (["-c", "zstd"], "mixed", None),
        "dedupe": (["-c", "zlib", "--dedupe"], "mixed", None),
        "small": (["--cluster-size", "4K"], "mixed", None),
        "old-version": (["--compat", "0.10", "-c", "zlib"], "mixed", None),
        "ext4": ([], "ext4", None),
        "ext4-zstd": (["-c", "zstd", "--dedupe"], "ext4", None),
        "second": ([], "later", "zstd"),
        "third": (["-c", "zstd"], "last", "second"),
        "small-second": (["--cluster-size", "4K"], "later", "small"),
        "old-second": (["--compat", "0.10"], "later", "old-version"),
        "ext4-second": (["-c", "zstd"], "ext4-later", "ext4-zstd"),
    }

    def __init__(self, binary, place, random):
        self.binary = binary
        self.root = place.directory("disks")
        self.make_sources(random)
        for name, (_, source, base) in self.IMAGES.items():
            self.make([*self.options(name), self.source(source)], self.image(name), source)
            if base:
                world.write(self.merged(name), world.read(self.image(name)))
                self.make(["merge"], self.merged(name), source)

    def make(self, words, image, source):
        world.must([self.binary, *words, "-q", image])
        if not is_image_of(image, self.source(source)):
            raise RuntimeError(f"{image} is not right, and nothing was injected yet")

    def make_sources(self, random):
        noise = random.randbytes(4 * MIB)
        world.sparse(self.source("noise"), 4 * MIB + 512, [(0, noise)])
        text = b"".join(b"%d bottles of beer\n" % n for n in range(40000))
        pieces = [(0, text), (2 * MIB, noise[:MIB]), (3 * MIB, bytes(MIB)), (5 * MIB, text), (7 * MIB, noise[:MIB])]
        world.sparse(self.source("mixed"), 8 * MIB, pieces)
        files = os.path.join(self.root, "files")
        os.mkdir(files)
        world.write(os.path.join(files, "text"), text)
        world.write(os.path.join(files, "noise"), noise[MIB : 3 * MIB])
        # What is free in it is zeros, so that an image is equal to it.
        world.sparse(self.source("ext4"), 8 * MIB)
        world.must(["mke2fs", "-q", "-F", "-t", "ext4", "-d", files, self.source("ext4")])
        # What each was a night later: changed, zeros where there was data, data where there were zeros, one file more.
        pieces += [(64 * KIB, noise[:KIB]), (2 * MIB + 512, bytes(300 * KIB)), (4 * MIB, noise[3 * MIB :])]
        world.sparse(self.source("later"), 8 * MIB, pieces)
        world.sparse(self.source("last"), 8 * MIB, [*pieces, (2 * MIB, noise[2 * MIB : 3 * MIB]), (7 * MIB, bytes(MIB))])
        world.write(self.source("ext4-later"), world.read(self.source("ext4")))
        write = f"write {os.path.join(files, 'noise')} more"
        world.must(["debugfs", "-w", "-R", write, self.source("ext4-later")])

    def options(self, name):
        """With which an image is made."""
        options, _, base = self.IMAGES[name]
        return [*options, *(["--base", self.image(base)] if base else [])]

    def bases(self, name):
        """The names of the images that one stands on."""
        base = self.IMAGES[name][2]
        return [base, *self.bases(base)] if base else []

    @classmethod
    def increments(cls):
        """The names of the images that stand on others."""
        return [name for name, (_, _, base) in cls.IMAGES.items() if base]

    def merged(self, name):
        """One that stands on others, and what those hold."""
        return os.path.join(self.root, f"{name}-merged.qcow2")

    def source(self, name):
        return os.path.join(self.root, f"{name}.raw")

    def image(self, name):
        return os.path.join(self.root, f"{name}.qcow2")


def is_image_of(image, source):
    """What QEMU says of an image."""
    compare = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, source]
    check = ["qemu-img", "check", "-q", image]
    return all(subprocess.run(c, capture_output=True, check=False).returncode == 0 for c in (compare, check))


class Job:
    """One run: what it reads, what it writes, and what is right."""

    def __init__(self, disks, directory, name):
        self.disks = disks
        self.directory = directory
        self.name = name
        self.options = []
        self.verb = []
        # Where files are seen, and where they are if that is another directory.
        self.seen = directory
        self.real = directory
        self.old = None
        # Names and content of what must lie beside the target.
        self.beside = {}
        self.to_device = False
        self.is_stream = False

    def create(self, name):
        """Makes an image as `name` of the disks is."""
        source = Disks.IMAGES[name][1]
        self.verb, self.options = [], self.disks.options(name)
        self.input, self.expected = self.disks.source(source), self.disks.image(name)
        self.target = "target.qcow2"
        return self

    def restore(self, name):
        source = Disks.IMAGES[name][1]
        self.verb = ["restore"]
        self.input, self.expected = self.disks.image(name), self.disks.source(source)
        self.target = "target.raw"
        return self

    def merge(self, name):
        """Makes an image and those that it stands on one."""
        self.verb, self.input, self.expected = ["merge"], None, self.disks.merged(name)
        self.target = "target.qcow2"
        self.old = world.read(self.disks.image(name))
        return self.on_bases(name)

    def on_bases(self, name):
        """What an image stands on must lie beside the target."""
        images = {f"{base}.qcow2": self.disks.image(base) for base in self.disks.bases(name)}
        self.beside = {base: world.read(image) for base, image in images.items()}
        return self

    def with_old(self):
        if not self.is_merge():
            self.old = OLD if self.target.endswith(".qcow2") else b"the old disk"
        return self.put()

    def put(self):
        """Writes what was there before, and what must lie beside it."""
        world.write(self.path(), self.old)
        for name, content in self.beside.items():
            world.write(os.path.join(self.real, name), content)
        return self

    def is_merge(self):
        return self.verb == ["merge"]

    def onto(self, device):
        self.to_device, self.target = True, device
        # The next run finds there what the one before has left.
        self.options.append("--overwrite")
        return self

    def streamed(self, *options):
        self.is_stream, self.options = True, [*self.options, *options]
        return self

    def path(self):
        return self.target if self.to_device else os.path.join(self.real, self.target)

    def command(self):
        """What is run, in the directory of the job."""
        if self.is_stream:
            words = [self.disks.binary, *self.verb, *self.options, self.input, "-"]
            return ["sh", "-c", 'exec "$@" > target', "sh", *words]
        target = self.target if self.to_device else os.path.join(self.seen, self.target)
        if self.is_merge():
            return [self.disks.binary, *self.verb, *self.options, target]
        return [self.disks.binary, *self.verb, *self.options, self.input, target]

    def is_new(self, path=None):
        path = path or self.path()
        found, expected = world.read(path), world.read(self.expected)
        if self.to_device and found is not None:
            found = found[: len(expected)]
        if found == expected:
            return True
        return found is not None and not self.verb and is_image_of(path, self.input)

    def is_old(self):
        return world.read(self.path()) == self.old

    def leftovers(self):
        places = {self.directory, self.real}
        return [name for place in places for name in os.listdir(place) if name.startswith(".mkqcow2-")]

    def no_leftovers(self):
        # FUSE forgets a file a moment after it is closed.
        for _ in range(20):
            left = self.leftovers()
            if not left or self.real == self.seen:
                break
            time.sleep(0.05)
        require(not left, f"left over: {left}")

    def bases_are_as_they_were(self):
        for name, content in self.beside.items():
            require(world.read(os.path.join(self.real, name)) == content, f"{name}, which it stands on, was changed")

    def old_or_new(self):
        """What holds however it ended; tells whether it is the new one."""
        self.bases_are_as_they_were()
        if self.is_new():
            return True
        if not (self.to_device or self.is_stream):
            require(self.is_old(), f"{self.target} is neither the old nor the new one: {look(self.path())}")
        return False

    def judge(self, ran, can_speak=True):
        """Holds a run that was not killed to its status."""
        sane(ran)
        is_new = self.old_or_new()
        self.no_leftovers()
        if ran.status in (0, 3):
            require(is_new, f"status {ran.status}, and {self.target} is not right: {look(self.path())}")
            require(ran.status == 0 or ran.said or not can_speak, "status 3 without a word")
            return RIGHT if ran.status == 0 else TOLD
        require(ran.status == 1, f"status {ran.status}")
        require(ran.said or not can_speak, "failed without a word")
        require(
            not is_new or self.is_old() or self.to_device or self.is_stream,
            f"status 1, and {self.target} is the new one",
        )
        return FAILED

    def next_run(self, place):
        """After whatever happened the next run is right, and removes what was left."""
        ran = place.run(self.command(), self.directory)
        require(ran.status == 0, f"the next run ends with status {ran.status}: {ran.said}")
        require(self.is_new(), "the next run is not right")
        self.no_leftovers()


def require(condition, what):
    if not condition:
        raise Broken(what)


def sane(ran):
    """What no fault excuses."""
    require(not ran.hung, f"hangs: no end within {world.TIME_LIMIT} s")
    require(ran.status != 101 and "panicked at" not in ran.said, "a panic")
    require(ran.status not in (64, 127), f"status {ran.status}")


def look(path):
    content = world.read(path)
    if content is None:
        return "there is none"
    return f"{len(content)} bytes that begin with {content[:16]!r}"


def target_job(disks, directory, random, place=None):
    """A run that replaces or makes a file at random."""
    name = random.choice(list(Disks.IMAGES))
    job = Job(disks, directory, name)
    draw = random.random()
    if draw < 0.2:
        job.merge(random.choice(Disks.increments()))
    elif draw < 0.7:
        job.create(name)
    else:
        job.restore(name)
        if random.random() < 0.3:
            job.options.append("--verify")
    if random.random() < 0.2 and "--verify" not in job.options:
        job.options.append("--no-sync")
    if place and random.random() < 0.15:
        job.real = os.path.join(directory, "real")
        job.seen = place.view(job.real, os.path.join(directory, "view"))
    if job.is_merge() or random.random() < 0.7:
        job.with_old()
    elif random.random() < 0.5:
        job.options.append("--no-clobber")
    return job


def any_job(disks, directory, random, place):
    """The same, or a run into a device or a stream."""
    draw = random.random()
    if draw < 0.75:
        return target_job(disks, directory, random, place)
    name = random.choice(list(Disks.IMAGES))
    job = Job(disks, directory, name)
    if draw < 0.87:
        device = place.loop(world.sparse(os.path.join(directory, "device"), 8 * MIB + 64 * KIB))
        job.restore(name).onto(device)
        if random.random() < 0.3:
            job.options.append("--verify")
        return job
    if draw < 0.94:
        # What stands on another image is no stream that is made in one pass.
        name = random.choice([name for name, (_, _, base) in Disks.IMAGES.items() if not base])
        job.create(name).target = "target"
        # A stream cannot look back for equal clusters.
        job.options = [option for option in job.options if option != "--dedupe"]
        return job.streamed(*(["--two-pass"] if "-c" in job.options else []))
    job.restore(name).target = "target"
    return job.streamed()
