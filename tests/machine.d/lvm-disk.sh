#!/bin/sh
# A whole disk as a physical volume: linear volumes in several pieces, striped ones, and a snapshot that needs what
# its origin has freed. Lost and restored, the kernel and LVM find every volume, and in it every file.
# Limit: 120 s
set -eu
. "$(dirname "$0")/guest/lib.sh"

disk 160
pv=$disk
group vg "$pv"

# In pieces: what was between them was a volume, too.
lvcreate -q -y -L 8M -n linear vg
lvcreate -q -y -L 8M -n removed vg
lvcreate -q -y -L 12M -n other vg
secret text 7000
cat text >/dev/vg/removed
lvremove -q -y vg/removed
lvextend -q -L 28M vg/linear
lvcreate -q -y --alloc anywhere -i 2 -I 64k -L 16M -n striped vg "$pv:20-23" "$pv:30-33" || lvcreate -q -y -L 16M -n striped vg
lvextend -q -L 20M vg/other
lvcreate -q -y -L 24M -n origin vg
[ "$(lvs --noheadings -o seg_count vg/linear)" -gt 1 ] || fail 'it is in one piece'
[ "$(lvs --noheadings -o stripes vg/striped)" -eq 2 ] || fail 'it has no stripes'

mkdir files
for name in linear striped other origin; do
    mke2fs -q -t ext4 -E nodiscard "/dev/vg/$name"
    mount_at "in/$name" "/dev/vg/$name"
    fill "in/$name" "$name" 3
    secret "in/$name/deleted" 2000
done
# The snapshot, of a filesystem that is mounted, has what the origin deletes.
fill in/origin shared 4
sync
hashes in/origin >files/snap
lvcreate -q -y --snapshot -L 16M -n snap vg/origin
rm -r in/origin/shared
for name in linear striped other origin; do
    sync
    rm "in/$name/deleted"
    hashes "in/$name" >"files/$name"
    umount "in/$name"
done
vgchange -q -an vg
sync

expect 0 mkqcow2 "$pv" image.qcow2
expect 0 qemu-img check image.qcow2
for how in '' --used-only; do
    lose "$pv"
    # shellcheck disable=SC2086 # none or one
    expect 0 mkqcow2 restore $how image.qcow2 "$pv"
    expect 0 vgck vg
    vgchange -q -ay vg
    same_volumes files/*
    vgchange -q -an vg
done
