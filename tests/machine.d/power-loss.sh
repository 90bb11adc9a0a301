#!/bin/sh
# The power fails while the image of the night before is replaced, twice. Whatever the disk has of what was written:
# IMAGE is the old one or the new one, whole, and the new one once mkqcow2 has ended with 0.
# Limit: 200 s
set -eu
. "$(dirname "$0")/guest/lib.sh"

fill . files 1
cp files/large source0
for night in 1 2; do
    { cat "source$((night - 1))"; head -c 300000 /dev/urandom; } | tail -c 1M >"source$night"
done

# The old image lies there, on stable storage. The kernel's own cure for programs that do not sync before they
# rename would hide a bug, so it is off.
disk 8
target=disk1
written=$disk
options=noatime,noinit_itable,noauto_da_alloc
mke2fs -q -t ext4 -b 1024 -J size=1 "$written"
mount_at backup "$written" -o $options
mkqcow2 -q source0 backup/image.qcow2
cp backup/image.qcow2 night0.qcow2
umount backup
cp --sparse=never $target base

# Everything that is written from now on is recorded.
disk 32
mapped recorded "0 $(sectors "$written") log-writes $written $disk"
mount_at backup /dev/mapper/recorded -o $options
for night in 1 2; do
    expect 0 mkqcow2 "source$night" backup/image.qcow2
    dmsetup message recorded 0 mark "$night"
    cp backup/image.qcow2 "night$night.qcow2"
done
umount backup
dmsetup remove --retry recorded

# What is equal to these is as good as these.
for night in 0 1 2; do
    expect 0 mkqcow2 verify "night$night.qcow2"
    expect 0 qemu-img check "night$night.qcow2"
done
python3 -B "$(dirname "$0")/guest/replay.py" "$disk" $target backup base 120 image.qcow2 \
    night0.qcow2 night1.qcow2 night2.qcow2
