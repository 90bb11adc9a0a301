#!/bin/sh
# The README's way to image a filesystem that stays mounted: a snapshot of its volume. The image holds the files of
# that moment, whatever is written to the origin meanwhile, and comes back onto a volume.
set -eu
. "$(dirname "$0")/guest/lib.sh"

disk 200
group vg "$disk"
lvcreate -q -y -L 48M -n srv vg
mke2fs -q -t ext4 /dev/vg/srv
mount_at srv /dev/vg/srv
fill srv kept 6
fill srv removed 6
rm -r srv/removed
fill srv written-last 1
hashes srv >of-the-moment

# Its journal is not empty: the filesystem is mounted.
lvcreate -q -y --snapshot -L 48M -n snap vg/srv

# The origin goes on.
(while :; do
    head -c 1000000 /dev/urandom >srv/busy
    rm -rf srv/kept/file1 srv/written-last/large
    head -c 100000 /dev/urandom >srv/kept/file5000
    sync
done) &
writer=$!
undo "kill $writer 2>/dev/null; wait $writer"
expect 0 mkqcow2 /dev/vg/snap srv.qcow2
kill "$writer"
wait "$writer" || true
hashes srv | cmp -s - of-the-moment && fail 'nothing was written to the origin'
expect 0 mkqcow2 verify srv.qcow2
expect 0 qemu-img check srv.qcow2

# What was free then is not in the image.
size=$(stat -c %s srv.qcow2)
[ "$size" -lt 20000000 ] || fail "the image has $size bytes"

lvremove -q -y vg/snap
lvcreate -q -y -L 48M -n restored vg
lose /dev/vg/restored
expect 0 mkqcow2 restore --used-only srv.qcow2 /dev/vg/restored
# The journal is replayed by the kernel, and then all is right.
mount_at restored /dev/vg/restored
same_files of-the-moment restored
umount restored
expect 0 e2fsck -fn /dev/vg/restored

# In place: onto the volume that it came from, once that is not in use.
expect 1 mkqcow2 restore srv.qcow2 /dev/vg/srv
says "mounted read-write on $PWD/srv"
umount srv
expect 0 mkqcow2 restore --overwrite srv.qcow2 /dev/vg/srv
mount_at srv /dev/vg/srv
same_files of-the-moment srv
