"""What the machine needs, from the packages of Debian: fetched through apt and unpacked, never installed.

Nothing of this system changes: the emulator may be of another version than the qemu-img that is installed, and no
service starts. What is installed already is used as it is.
"""

import glob
import os
import re
import shutil
import subprocess

# Package, and why.
PACKAGES = {
    "busybox-static": "the programs of the first seconds, until the files of this system are there",
    "dosfstools": "FAT, made in the machine",
    "e2fsprogs": "ext4, and its checker",
    "exfatprogs": "exFAT, made in the machine",
    "kmod": "modprobe, depmod",
    "linux-image-amd64": "the kernel",
    "lvm2": "logical volumes, and dmsetup",
    "mdadm": "RAID",
    "qemu-system-x86": "the emulator",
    "qemu-utils": "the other opinion on images",
    "thin-provisioning-tools": "what thin and cached volumes are checked with when they are activated",
    "util-linux": "loop devices",
    "xfsprogs": "XFS, made in the machine, and its checker",
}
# The directories that are symbolic links to those in /usr.
MERGED = ("bin", "lib", "lib64", "sbin")


class Lacking(Exception):
    """Something is missing, or cannot be had; the text says what to do."""


def output_of(command, **options):
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if ran.returncode != 0:
        raise Lacking(f"{' '.join(command[:6])} ... ended with {ran.returncode}:\n{ran.stdout.strip()}")
    return ran.stdout


def not_installed():
    """What apt would install in addition to what is here: package=version, with all that they depend on."""
    # It must not refuse to think of a system without a package of this one, nor do more than think.
    asked = ["apt-get", "--simulate", "-q", "--no-install-recommends", "install"]
    names = [name for name in PACKAGES if name != "qemu-utils" or not shutil.which("qemu-img")]
    lines = output_of([*asked, *names], env={**os.environ, "LC_ALL": "C"}).splitlines()
    # `Inst NAME (VERSION ...)`; an upgrade has the old version in brackets, in front of that, and is not wanted.
    found = (re.match(r"Inst (\S+) \((\S+)", line) for line in lines)
    return sorted(f"{match[1]}={match[2]}" for match in found if match)


class Unpacked:
    """The packages that this system lacks, unpacked."""

    def __init__(self, place):
        self.place = place
        self.root = os.path.join(place, "root")
        self.stamp = os.path.join(place, "packages")

    def ensure(self, say):
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Lacking("this system has no apt-get: tests/machine needs Debian or its kin")
        try:
            wanted = not_installed()
        except Lacking:
            # A machine that never asked has no lists.
            output_of(["apt-get", "-q", "update"])
            wanted = not_installed()
        if self.recorded() == wanted:
            return
        say(f"fetching and unpacking {len(wanted)} packages")
        shutil.rmtree(self.place, ignore_errors=True)
        self.unpack(wanted)
        for kernel in map(os.path.basename, glob.glob(self.path("usr/lib/modules/*"))):
            output_of(["depmod", "-b", self.root, kernel], **self.program("depmod"))
        with open(self.stamp, "w", encoding="utf-8") as stamp:
            stamp.write("\n".join(wanted))

    def recorded(self):
        try:
            with open(self.stamp, encoding="utf-8") as stamp:
                return stamp.read().split()
        except FileNotFoundError:
            return None

    def unpack(self, wanted):
        for name in MERGED:
            os.makedirs(self.path(f"usr/{name}"))
            os.symlink(f"usr/{name}", self.path(name))
        archives = os.path.join(self.place, "archives")
        os.mkdir(archives)
        try:
            fetch = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *wanted]
            try:
                output_of(fetch, cwd=archives)
            except Lacking:
                # Versions that the lists name are gone from the servers after a while.
                output_of(["apt-get", "-q", "update"])
                output_of(fetch, cwd=archives)
            for archive in sorted(os.listdir(archives)):
                self.unpack_one(os.path.join(archives, archive))
        finally:
            shutil.rmtree(archives)

    def unpack_one(self, archive):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as files:
            # Packages have /lib and /sbin, which must not take the place of the links. Nobody reads the manuals.
            tar = ["tar", "-x", "-C", self.root, "--keep-directory-symlink", "--no-same-owner"]
            output_of([*tar, "--exclude=./usr/share/doc", "--exclude=./usr/share/man"], stdin=files.stdout)
        if files.returncode != 0:
            raise Lacking(f"{archive} cannot be unpacked")

    def path(self, name):
        return os.path.join(self.root, name)

    def find(self, *names):
        """The first of these files, among what was unpacked or in this system."""
        for name in names:
            for root in (self.root, ""):
                path = f"{root}/{name}"
                if os.path.islink(path) and os.readlink(path).startswith("/"):
                    # Where it leads within the same root.
                    path = root + os.readlink(path)
                if os.path.exists(path):
                    return path
        raise Lacking(f"/{names[0]} is neither unpacked nor installed: remove {self.place} and try again")

    def program(self, name):
        """How subprocess runs a program, be it unpacked or of this system, with the libraries that were unpacked."""
        libraries = ":".join(self.path(f"usr/lib{place}") for place in ("/x86_64-linux-gnu", ""))
        path = self.find(*(f"usr/{place}/{name}" for place in ("sbin", "bin")))
        return {"executable": path, "env": {**os.environ, "LD_LIBRARY_PATH": libraries}}
