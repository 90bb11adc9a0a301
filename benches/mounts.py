"""The tools of the contests about `mkqcow2 mount`: each shows the disk in an image as a file, and reads that."""

import shlex
import subprocess
from pathlib import Path

from contest import Places, Tool, Work
from corpus import MIB, fail

READER = str(Path(__file__).resolve().parent / "reader.py")

# $1 mkqcow2, $2 the image, $3 a name for a directory; what comes behind reads $file. The servers stay in the foreground,
# so that their CPU time and memory count, and so that they end with the script.
HEAD = """
set -e
point=$3.point socket=$3.socket
shift 3
umount -lq "$point" || true
# Whatever fails: no server is left.
trap 'status=$?; umount -lq "$point" 2>&1 || true; kill $(jobs -p) 2>&1 || true; exit $status' EXIT
rm -f "$socket"
mkdir -p "$point"
until_there() {
    for _ in $(seq 2000); do
        if [ -e "$1" ]; then return; fi
        sleep 0.005
    done
    exit 1
}
"""
TAIL = """
until_there "$file"
eval "$reading"
umount "$point"
"""
OWN = """
mkqcow2=$1 image=$2
%s
"$mkqcow2" mount --foreground "$image" "$point" &
file=$point/disk.raw
%s
wait
"""
RIVAL = """
image=$2
%s
qemu-nbd --read-only --shared=8 --persistent --format=qcow2 --socket="$socket" "$image" &
nbd=$!
until_there "$socket"
nbdfuse -r "$point/" --unix "$socket" &
file=$point/nbd
%s
kill $nbd
wait
"""


def read_by(name: str, reading: str) -> tuple[Tool, Tool]:
    """mkqcow2 and its rival, read by a command of the shell."""
    reading = f"reading={shlex.quote(reading)}"
    own, rival = (script % (HEAD, f"{reading}\n{TAIL}") for script in (OWN, RIVAL))
    return (
        Tool(f"mkqcow2 mount, {name}", ("bash", "-c", own, "bash", "MKQCOW2", "IMAGE", "LOG")),
        Tool(f"qemu-nbd | nbdfuse, {name}", ("bash", "-c", rival, "bash", "", "IMAGE", "LOG")),
    )


def at_random(size: int, count: int, readers: int = 1) -> str:
    """The command for reads of 4 KiB in the first `size` bytes."""
    return f'python3 {READER} "$file" {size} {count} {readers}'


SEQUENTIAL = read_by("sequential", 'dd if="$file" of=/dev/null bs=1M status=none')
# mkqcow2 keeps at least 32 MiB of clusters.
WITHIN = read_by("random 4K within 24 MiB", at_random(24 * MIB, 20000))
BEYOND = read_by("random 4K", at_random(1 << 40, 10000))
BEYOND_4 = read_by("random 4K, 4 readers", at_random(1 << 40, 10000, 4))

MOUNT_NEEDS = ("qemu-img", "qemu-nbd", "nbdfuse", "bash", "python3", "mount", "umount")


def prove_mounted(places: Places) -> None:
    """Stops unless the file has the bytes of the source."""
    own = read_by("proof", f'cmp "$file" {shlex.quote(str(places["SOURCE"]))}')[0]
    done = subprocess.run(own.argv(places), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        fail(f"{own.name}: status {done.returncode}: {(done.stdout + done.stderr).strip()[-400:]}")


MOUNTING = Work("mount", ("IMAGE",), None, prove_mounted)
