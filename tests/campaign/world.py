"""Where runs take place: directories, mounts, loop devices and processes, all undone at the end."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

KIB = 1 << 10
MIB = 1 << 20
# A run takes a tenth of a second; what takes this long hangs.
TIME_LIMIT = 60

# Program, and the package of Debian that holds it.
TOOLS = {
    "bindfs": "bindfs",
    "e2fsck": "e2fsprogs",
    "losetup": "mount",
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "mount": "mount",
    "qemu-img": "qemu-utils",
    "strace": "strace",
}


def missing():
    """The packages that hold the tools which this system lacks."""
    return sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})


class Ran:
    """How a run ended."""

    def __init__(self, status, said, hung=False):
        self.status = status
        self.said = said
        self.hung = hung


class World:
    """A temporary directory, and all that must be undone before it is removed."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="mkqcow2-faults-")
        self.lock = threading.Lock()
        self.mounts = []
        self.loops = []
        self.processes = set()
        self.closing = False

    def end_all(self):
        """Ends what still runs, and lets nothing else begin."""
        self.closing = True
        for process in list(self.processes):
            end(process)

    def close(self):
        """Ends what still runs and undoes everything, newest first."""
        self.end_all()
        for point in reversed(list(self.mounts)):
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL, check=False)
        for number in os.listdir("/sys/block"):
            if backing_file(number).startswith(self.root.encode() + b"/"):
                subprocess.run(["losetup", "-d", f"/dev/{number}"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def directory(self, name):
        path = os.path.join(self.root, name)
        os.makedirs(path)
        return path

    def start(self, command, cwd):
        """Starts a program as the leader of a group, which can be killed as one."""
        if self.closing:
            raise RuntimeError("stopped")
        environment = dict(os.environ, TMPDIR=cwd, LC_ALL="C", RUST_BACKTRACE="0")
        said = open(os.path.join(cwd, "said"), "wb")
        with said:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env=environment,
            )
        self.processes.add(process)
        return process

    def wait(self, process, cwd, limit=TIME_LIMIT):
        """How it ended; it is killed if it takes too long."""
        hung = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            hung = True
        end(process)
        self.processes.discard(process)
        with open(os.path.join(cwd, "said"), "rb") as file:
            said = file.read().decode(errors="replace")
        os.unlink(os.path.join(cwd, "said"))
        return Ran(process.returncode, said, hung)

    def run(self, command, cwd):
        return self.wait(self.start(command, cwd), cwd)

    def mount(self, what, point, *options):
        os.makedirs(point, exist_ok=True)
        must(["mount", *options, what, point])
        self.mounts.append(point)
        return point

    def view(self, real, point):
        """A directory through a filesystem without unnamed files."""
        os.makedirs(real, exist_ok=True)
        os.makedirs(point, exist_ok=True)
        must(["bindfs", real, point])
        self.mounts.append(point)
        return point

    def unmount(self, point):
        for _ in range(100):
            done = subprocess.run(["umount", point], capture_output=True, check=False)
            if done.returncode == 0:
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"umount {point}: {done.stderr.decode()}")
        self.mounts.remove(point)

    def loop(self, path):
        with self.lock:
            for _ in range(20):
                done = subprocess.run(
                    ["losetup", "--find", "--show", path],
                    capture_output=True,
                    check=False,
                    start_new_session=True,
                )
                if done.returncode == 0:
                    device = done.stdout.decode().strip()
                    self.loops.append(device)
                    return device
                time.sleep(0.1)
        raise RuntimeError(f"losetup {path}: {done.stderr.decode()}")

    def unloop(self, device):
        must(["losetup", "-d", device])
        self.loops.remove(device)


def end(process):
    """Kills all of its group, which may outlive its leader."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def must(command):
    """Runs a tool that must not fail."""
    # A signal that ends the campaign is none of its business.
    done = subprocess.run(command, capture_output=True, check=False, start_new_session=True)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {said}")
    return done


def read(path):
    """The bytes of a file or device, or nothing if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def backing_file(device):
    """The name of the file behind a loop device, as the kernel has it, or nothing if there is none (any more)."""
    try:
        return read(f"/sys/block/{os.path.basename(device)}/loop/backing_file") or b""
    except OSError as error:
        # It was detached between opening and reading.
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return b""
        raise


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def sparse(path, size, pieces=()):
    with open(path, "wb") as file:
        file.truncate(size)
        for at, content in pieces:
            file.seek(at)
            file.write(content)
    return path


def copy(source, target):
    """Copies a file with its holes, and returns a digest of its data."""
    digest = hashlib.sha256()
    with open(source, "rb") as old, open(target, "wb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            stop = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                piece = os.pread(old.fileno(), min(MIB, stop - at), at)
                if piece.strip(b"\0"):
                    digest.update(at.to_bytes(8, "little") + piece)
                os.pwrite(new.fileno(), piece, at)
                at += len(piece)
    return digest.digest()


def copy_at_rest(source, target):
    """Copies a file that the kernel may be writing to: twice, until two copies are equal, so that all of the
    copy is of one moment."""
    last = copy(source, target)
    for _ in range(50):
        now = copy(source, target)
        if now == last:
            return
        last = now
    raise RuntimeError(f"{source} does not come to rest")


def sync_directory(path):
    """Lets the kernel write the directory before anything else."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
