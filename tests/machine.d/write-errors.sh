#!/bin/sh
# The disk under IMAGE fails while the new image is written: at once, at its end when it is waited for, or because a
# thin pool is full while the filesystem has room. The old image is there as it was, and the run says that it failed.
set -eu
. "$(dirname "$0")/guest/lib.sh"

fill . files 6
cat files/large >source.raw
head -c 1M files/large >old.raw
fails() {
    expect 1 mkqcow2 source.raw backup/image.qcow2
    says 'mkqcow2: backup/image.qcow2: cannot'
    says '(nothing was changed)'
}
old_is_there() {
    expect 0 cmp old.qcow2 backup/image.qcow2
    left=$(find backup -name '.mkqcow2*')
    [ -z "$left" ] || fail "left over: $left"
}
mkqcow2 -q old.raw old.qcow2

# The second half of the disk cannot be written, and nothing but data is there. (Without a journal, so that the
# filesystem goes on.)
disk 16
size=$(sectors "$disk")
half=$((size / 4))
mapped under "0 $size linear $disk 0"
mke2fs -q -t ext4 -b 4096 -O ^has_journal /dev/mapper/under
mount_at backup /dev/mapper/under -o noinit_itable
cp old.qcow2 backup/image.qcow2
sync
for kind in 'error' "flakey $disk $half 0 1000 1 error_writes"; do
    remap under "0 $half linear $disk 0
        $half $((size - half)) $kind"
    fails
    remap under "0 $size linear $disk 0"
    old_is_there
done
# And it works when the disk does.
expect 0 mkqcow2 source.raw backup/image.qcow2
expect 0 mkqcow2 verify backup/image.qcow2
umount backup

# Nothing at all can be written, so the journal fails, and with it the filesystem.
mke2fs -q -F -t ext4 -b 1024 /dev/mapper/under
mount_at backup /dev/mapper/under -o noinit_itable
cp old.qcow2 backup/image.qcow2
sync
remap under "0 $size flakey $disk 0 0 1000 1 error_writes"
fails
umount backup
remap under "0 $size linear $disk 0"
expect 1 e2fsck -fy /dev/mapper/under
mount_at backup /dev/mapper/under
old_is_there
umount backup

# A pool with 8 MiB for a filesystem that believes in 64. The kernel waits for more, but not for a minute here.
timeout=/sys/module/dm_thin_pool/parameters/no_space_timeout
echo 1 >$timeout
undo "echo 60 >$timeout"
disk 40
group vg "$disk"
lvcreate -q -y --type thin-pool -Zy -L 8M -n pool vg
lvcreate -q -y --thin -V 64M -n thin vg/pool
mke2fs -q -t ext4 -b 4096 -O ^has_journal -E nodiscard /dev/vg/thin
mount_at backup /dev/vg/thin -o noinit_itable
cp old.qcow2 backup/image.qcow2
sync
fails
old_is_there
