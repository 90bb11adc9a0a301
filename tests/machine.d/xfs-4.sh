#!/bin/sh
# XFS of version 4, which new kernels do not mount any more: aged, unmounted or cut off; what is free is lost, and every
# file comes back.
# Limit: 300 s
set -eu
. "$(dirname "$0")/guest/lib.sh"

# Below 300 MB it makes one only for its own tests.
export TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1

# aged OPTION...: $disk with a filesystem that has files, and had others, on $files.
aged() {
    disk 40
    mkfs.xfs -q -f -K -m crc=0,finobt=0 "$@" "$disk"
    mount_at files "$disk" -t xfs
    fill files first 2
    secret files/deleted 3000
    for number in 1 2 3 4; do
        fill files "$number" 1
    done
    sync
    rm -r files/deleted files/2 files/4
    # Through all caches to the disk.
    umount files
    mount -t xfs "$disk" files
}

# comes_back: what is in use of $disk is all that its files need; `recorded` has their hashes.
comes_back() {
    expect 0 mkqcow2 map --regions "$disk"
    grep -q ': XFS.* free$' said || fail 'it is not mapped'
    expect 0 mkqcow2 "$disk" image.qcow2
    expect 0 qemu-img check image.qcow2
    lose "$disk"
    expect 0 mkqcow2 restore --used-only image.qcow2 "$disk"
    grep -q "$(printf '\245\245\245\245')" "$disk" || fail 'there is nothing left of the marker'
    mount -t xfs "$disk" files
    same_files recorded files
    umount files
    expect 0 xfs_repair -n -o force_geometry "$disk"
}

unmounted() {
    aged "$@"
    hashes files >recorded
    umount files
    blockdev --flushbufs "$disk"
    grep -q do-not-keep "$disk" || fail 'the deleted is not even on the disk'
    comes_back
    ! grep -q do-not-keep image.qcow2 || fail 'the deleted is in the image'
}

# What the log has is not in the trees yet.
cut_off() {
    aged "$@"
    rm -r files/1
    fill files later 1
    for number in 11 12 13 14 15; do
        head -c 30000 /dev/urandom >"files/$number"
        sync "files/$number"
    done
    rm files/12 files/14
    sync
    hashes files >recorded
    xfs_io -x -c 'shutdown -f' files
    umount files
    blockdev --flushbufs "$disk"
    comes_back
}

unmounted -b size=512 -d agcount=1 -l version=1
unmounted -s size=4096 -i attr=1,projid32bit=0 -n ftype=0
cut_off -b size=1024 -d agcount=2 -l version=1
cut_off -d agcount=2 -l su=32k
