#!/bin/sh
# Volumes whose place on the disk LVM's metadata does not tell, or tells of more than one: a thin pool, RAID 1, a
# cache. On two disks, of which one has a partition table. Lost and restored, every file is there.
# Limit: 240 s
set -eu
. "$(dirname "$0")/guest/lib.sh"

disk 96
partitioned=$disk
disk 96
whole=$disk
echo 'start=1M, type=E6D6D379-F507-44C2-A23C-238F2A3DF928' | sfdisk -q --label gpt --no-reread "$partitioned"
partx -a "$partitioned"
undo "partx -d $partitioned"
part=${partitioned}p1
group vg "$part" "$whole"

lvcreate -q -y --type thin-pool -Zy -L 24M --poolmetadatasize 4M -n pool vg "$part"
lvcreate -q -y --thin -V 32M -n thin vg/pool
lvcreate -q -y --type raid1 -m 1 -L 16M -n mirrored vg
lvcreate -q -y -L 20M -n cached vg "$whole"
lvcreate -q -y --type cache-pool -L 12M --poolmetadatasize 8M -n fast vg "$part"
lvconvert -q -y --type cache --cachepool vg/fast --cachemode writeback vg/cached

mkdir files
for name in thin mirrored cached; do
    mke2fs -q -t ext4 "/dev/vg/$name"
    mount_at "in/$name" "/dev/vg/$name"
    fill "in/$name" "$name" 3
done
# What the thin volume deletes, its snapshot has.
fill in/thin shared 3
sync
hashes in/thin >files/thin-snap
lvcreate -q -y --snapshot -kn -n thin-snap vg/thin
rm -r in/thin/shared
for name in thin mirrored cached; do
    hashes "in/$name" >"files/$name"
    umount "in/$name"
done
vgchange -q -an vg
partx -d "$partitioned"
sync

for device in "$partitioned" "$whole"; do
    expect 0 mkqcow2 "$device" "$(basename "$device").qcow2"
    expect 0 qemu-img check "$(basename "$device").qcow2"
done
# What the pool gives to no thin volume is free, and nothing else of it is.
expect 0 mkqcow2 map --regions "$partitioned"
says 'logical volume "pool_tdata": thin pool, '
grep -q '"pool_tdata": thin pool, .* [1-9].* free' said || fail 'nothing is free in the pool'
says 'logical volume "pool_tmeta": copied whole'
says 'logical volume "mirrored_rimage_0": copied whole'

for how in '' --used-only; do
    for device in "$partitioned" "$whole"; do
        lose "$device"
        # shellcheck disable=SC2086 # none or one
        expect 0 mkqcow2 restore $how "$(basename "$device").qcow2" "$device"
    done
    partx -a "$partitioned"
    expect 0 vgck vg
    vgchange -q -ay vg
    same_volumes files/*
    vgchange -q -an vg
    partx -d "$partitioned"
done
partx -a "$partitioned"
