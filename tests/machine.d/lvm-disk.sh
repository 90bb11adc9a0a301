#!/bin/sh
# A whole disk as a physical volume: linear volumes in several pieces, striped ones, and a snapshot that needs what
# its origin has freed. Lost and restored, the kernel and LVM find every volume, and in it every file.
# Limit: 240 s
set -eu
. "$(dirname "$0")/guest/lib.sh"

disk 160
pv=$disk
group vg "$pv"

# In pieces: what was between them was a volume, too.
lvcreate -q -y -L 8M -n linear vg
lvcreate -q -y -L 8M -n removed vg
lvcreate -q -y -L 12M -n other vg
secret removed-volume 7000
cat removed-volume >/dev/vg/removed
lvremove -q -y vg/removed
lvextend -q -L 28M vg/linear
lvcreate -q -y --alloc anywhere -i 2 -I 64k -L 16M -n striped vg "$pv:20-23" "$pv:30-33" || lvcreate -q -y -L 16M -n striped vg
lvextend -q -L 20M vg/other
lvcreate -q -y -L 24M -n origin vg
[ "$(lvs --noheadings -o seg_count vg/linear)" -gt 1 ] || fail 'it is in one piece'
[ "$(lvs --noheadings -o stripes vg/striped)" -eq 2 ] || fail 'it has no stripes'

# Tables of inodes are zeroed at once, and none are reserved for growth: mke2fs leaves in those what was there before,
# and they are in use.
mkdir files
for name in linear striped other origin; do
    mke2fs -q -t ext4 -E nodiscard,lazy_itable_init=0 -O ^resize_inode "/dev/vg/$name"
    mount_at "in/$name" "/dev/vg/$name"
    fill "in/$name" "$name" 3
    secret "in/$name/deleted-$name" 2000
done
# The snapshot, of a filesystem that is mounted, has what the origin deletes.
fill in/origin shared 4
sync
hashes in/origin >files/snap
lvcreate -q -y --snapshot -L 16M -n snap vg/origin
rm -r in/origin/shared
# One that leaves its extents to no other.
lvcreate -q -y -L 8M -n removed vg
cat removed-volume >/dev/vg/removed
lvremove -q -y vg/removed
for name in linear striped other origin; do
    sync
    rm "in/$name/deleted-$name"
    hashes "in/$name" >"files/$name"
    umount "in/$name"
done
vgchange -q -an vg
sync
blockdev --flushbufs "$pv"

# What is free is known where nothing else needs it.
expect 0 mkqcow2 map --regions "$pv"
for name in linear striped other; do
    grep -q "logical volume \"$name\": ext4, .* free$" said || fail "$name is not mapped"
done
for name in origin snap; do
    says "logical volume \"$name\": copied whole: "
done
expect 0 mkqcow2 "$pv" image.qcow2
for name in removed-volume deleted-linear deleted-striped deleted-other; do
    grep -q "do-not-keep $name" "$pv" || fail "$name is not even on the disk"
    ! grep -q "do-not-keep $name" image.qcow2 || fail "$name is in the image"
done
expect 0 qemu-img check image.qcow2
for how in '' --used-only; do
    lose "$pv"
    # shellcheck disable=SC2086 # none or one
    expect 0 mkqcow2 restore $how image.qcow2 "$pv"
    expect 0 vgck vg
    vgchange -q -ay vg
    same_volumes files/*
    ! grep -qE 'do-not-keep (removed-volume|deleted-(linear|striped|other))' "$pv" || fail 'the deleted came back'
    vgchange -q -an vg
done
