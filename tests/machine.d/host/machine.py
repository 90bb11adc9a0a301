"""A virtual machine without hardware of its own: the kernel that was unpacked, and the files of this system."""

import glob
import lzma
import os
import queue
import re
import subprocess
import threading

from .packages import Lacking

# What the machine needs before it sees the files of this system.
EARLY_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
MEMORY_MIB = 3000


def newest_kernel(unpacked):
    for base in (unpacked.root, ""):
        versions = [path.rsplit("vmlinuz-", 1)[1] for path in glob.glob(f"{base}/boot/vmlinuz-*-amd64")]
        versions = [version for version in versions if os.path.exists(f"{base}/lib/modules/{version}/modules.dep")]
        if versions:
            numbers = lambda version: [int(number) for number in re.findall(r"\d+", version)]  # noqa: E731
            version = max(versions, key=numbers)
            return f"{base}/boot/vmlinuz-{version}", f"{base}/lib/modules/{version}"
    raise Lacking(f"no kernel with its modules is unpacked or installed: remove {unpacked.place} and try again")


def early_modules(modules):
    """The files of EARLY_MODULES and of all that they need, in the order in which they must be loaded."""
    needs = {}
    with open(f"{modules}/modules.dep", encoding="utf-8") as lines:
        for line in lines:
            path, needed = line.split(":")
            needs[path] = needed.split()
    by_name = {os.path.basename(path).split(".")[0].replace("-", "_"): path for path in needs}
    ordered = []
    for name in EARLY_MODULES:
        # One that is not listed is part of the kernel.
        path = by_name.get(name)
        for needed in [*reversed(needs[path]), path] if path else []:
            if needed not in ordered:
                ordered.append(needed)
    return [f"{modules}/{path}" for path in ordered]


def module_bytes(path):
    with open(path, "rb") as file:
        content = file.read()
    return lzma.decompress(content) if path.endswith(".xz") else content


def cpio(files):
    """An archive as the kernel unpacks it; {name: (mode, content)}, directories before what is in them."""
    archive = bytearray()

    def add(number, name, mode, content):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + name.encode() + b"\0", content):
            archive.extend(part)
            archive.extend(bytes(-len(archive) % 4))

    for number, (name, (mode, content)) in enumerate(files.items(), 1):
        add(number, name, mode, content)
    add(0, "TRAILER!!!", 0, b"")
    return bytes(archive)


def initramfs(unpacked, modules, init):
    files = {name: (0o40755, b"") for name in ("bin", "modules")}
    with open(unpacked.find("usr/bin/busybox", "bin/busybox"), "rb") as busybox:
        files["bin/busybox"] = (0o100755, busybox.read())
    with open(init, "rb") as file:
        files["init"] = (0o100755, file.read())
    for number, path in enumerate(early_modules(modules)):
        files[f"modules/{number:02}.ko"] = (0o100644, module_bytes(path))
    return cpio(files)


class Machine:
    """A machine that runs; its lines on the second serial port come out of `line`."""

    def __init__(self, unpacked, guest, share):
        kernel, modules = newest_kernel(unpacked)
        self.console = os.path.join(share, "console")
        image = os.path.join(share, "initramfs")
        with open(image, "wb") as file:
            file.write(initramfs(unpacked, modules, os.path.join(guest, "init")))
        # Each makes the emulation faster: the kernel's guards against its processor cost a lot there, and so does memory
        # that is zeroed twice.
        fast = "mitigations=off init_on_alloc=0 audit=0 nokaslr"
        options = "security_model=none,multidevs=remap"
        # What the machine is told: where the modules are, and the programs that are run in it.
        words = f"machine.guest={guest} machine.kernel={os.path.basename(modules)}"
        data = unpacked.find("usr/share/seabios", "usr/share/qemu")
        command = (
            "qemu-system-x86_64",
            *("-machine", "q35,accel=tcg", "-cpu", "max,la57=off", "-m", str(MEMORY_MIB), "-smp", "2"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-L", unpacked.find("usr/share/qemu"), "-L", data),
            *("-serial", f"file:{self.console}", "-serial", "stdio"),
            *("-virtfs", f"local,path=/,mount_tag=host,readonly=on,{options}"),
            *("-virtfs", f"local,path={unpacked.root},mount_tag=unpacked,readonly=on,{options}"),
            *("-virtfs", f"local,path={share},mount_tag=share,{options}"),
            *("-kernel", kernel, "-initrd", image, "-append", f"console=ttyS0 quiet panic=-1 {fast} {words}"),
        )
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **unpacked.program(command[0]),
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.decode(errors="replace").strip())
        self.lines.put(None)

    def line(self, seconds):
        """The next line, None after the last one; raises queue.Empty after so many seconds."""
        return self.lines.get(timeout=max(seconds, 0))

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def last_words(self):
        """The end of what its kernel said, or how the crash of it begins."""
        try:
            with open(self.console, encoding="utf-8", errors="replace") as console:
                lines = console.read().replace("\r", "").strip().splitlines()
        except FileNotFoundError:
            return []
        crash = re.compile(r"Kernel panic|BUG:|Oops|Out of memory|Trigger a crash")
        begin = next((number for number, line in enumerate(lines) if crash.search(line)), len(lines) - 30)
        return lines[max(begin, 0) :][:30]
