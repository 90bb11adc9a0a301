#!/bin/sh
# FAT and exFAT as the kernel writes them, with deleted files: nothing that was deleted is in the image, and every
# file comes back onto a disk that was full of something else.
set -eu
. "$(dirname "$0")/guest/lib.sh"

# proof TYPE MIB COMMAND...: a filesystem made by a command.
proof() {
    type=$1
    disk "$2"
    shift 2
    "$@" "$disk"
    mount_at files "$disk" -t "$type"
    fill files first 2
    secret files/deleted 3000
    sync
    # Its clusters are free, and some of what comes next takes them.
    rm files/deleted
    fill files "with a name that is too long for eight and three" 1
    secret files/first/deleted-too 700
    sync
    rm files/first/deleted-too files/first/file4096
    umount files
    # By what is on the disk, and not by what was ever called to mind.
    blockdev --flushbufs "$disk"
    mount -o ro -t "$type" "$disk" files
    hashes files >recorded
    umount files
    grep -q do-not-keep "$disk" || fail 'the deleted is not even on the disk'

    expect 0 mkqcow2 "$disk" image.qcow2
    expect 0 qemu-img check image.qcow2
    ! grep -q do-not-keep image.qcow2 || fail 'the deleted is in the image'
    lose "$disk"
    expect 0 mkqcow2 restore --used-only image.qcow2 "$disk"
    grep -q "$(printf '\245\245\245\245')" "$disk" || fail 'there is nothing left of the marker'
    mount -o ro -t "$type" "$disk" files
    same_files recorded files
    umount files
}

proof vfat 12 mkfs.fat -F 12 -s 8
expect 0 fsck.fat -n "$disk"
proof vfat 24 mkfs.fat -F 16
expect 0 fsck.fat -n "$disk"
proof vfat 48 mkfs.fat -F 32 -s 1
expect 0 fsck.fat -n "$disk"
proof exfat 24 mkfs.exfat
expect 0 fsck.exfat -n "$disk"
