#!/bin/sh
# A logical volume that is mounted, and a disk that volumes stand on, change while they are copied, and what is
# restored over them is lost or loses something. They are refused, and the message names who uses them.
set -eu
. "$(dirname "$0")/guest/lib.sh"

disk 96
whole=$disk
disk 64
partitioned=$disk
echo 'size=60M, type=E6D6D379-F507-44C2-A23C-238F2A3DF928' | sfdisk -q --label gpt --no-reread "$partitioned"
partx -a "$partitioned"
undo "partx -d $partitioned"
part=${partitioned}p1

group vg "$whole"
group other "$part"
lvcreate -q -y -L 24M -n home vg
lvcreate -q -y -L 24M -n idle vg
lvcreate -q -y -L 24M -n apart other
mke2fs -q -t ext4 /dev/vg/home
mke2fs -q -t ext4 /dev/vg/idle
# Nothing is written behind our back.
mount_at home /dev/vg/home -o noatime,noinit_itable
fill home data 4

# The volume itself, under each of its names; not even a sign of an image.
for name in /dev/vg/home /dev/mapper/vg-home; do
    expect 1 mkqcow2 "$name" home.qcow2
    says "mounted read-write on $PWD/home"
    [ ! -e home.qcow2 ] || fail 'there is an image'
done

# What the volumes stand on. A volume that is not mounted may be written to, too.
expect 1 mkqcow2 "$whole" whole.qcow2
says vg-home
expect 1 mkqcow2 "$part" part.qcow2
says other-apart
expect 1 mkqcow2 "$partitioned" part.qcow2
says other-apart
[ ! -e whole.qcow2 ] || fail 'there is an image'
[ ! -e part.qcow2 ] || fail 'there is an image'

# A restore to any of them changes nothing.
mkqcow2 -q /dev/vg/idle idle.qcow2
sync
for target in /dev/vg/home "$whole" "$part" "$partitioned"; do
    blockdev --flushbufs "$target"
    before=$(md5sum <"$target")
    expect 1 mkqcow2 restore idle.qcow2 "$target"
    blockdev --flushbufs "$target"
    [ "$(md5sum <"$target")" = "$before" ] || fail "$target has changed"
done

# Once nothing uses them, they are copied.
umount home
mkqcow2 -q /dev/vg/home home.qcow2
vgchange -q -an vg other
mkqcow2 -q "$whole" whole.qcow2
mkqcow2 -q "$partitioned" part.qcow2
