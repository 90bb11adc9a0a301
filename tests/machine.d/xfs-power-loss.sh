#!/bin/sh
# The power fails while files of an XFS are written and removed, and what the disk has by then is imaged. Whatever of
# the writes arrived: it is mapped, and with all that is free lost it mounts, with every file that was synced.
# Limit: 400 s
set -eu
. "$(dirname "$0")/guest/lib.sh"

# Below 300 MB it makes one only for its own tests.
export TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1
disk 64
target=disk1
written=$disk
mkfs.xfs -q -f -K -d agcount=2 -l size=6m "$written"
mount_at files "$written" -t xfs
fill files first 2
umount files
cp --sparse=never $target base

# Everything that is written from now on is recorded.
disk 64
mapped recorded "0 $(sectors "$written") log-writes $written $disk"
mount_at files /dev/mapper/recorded -t xfs
for number in $(seq 1 60); do
    head -c $((number * 997 % 60000)) /dev/urandom >"files/kept$number"
    head -c $((number * 7919 % 90000)) /dev/urandom >"files/gone$number"
    sync "files/kept$number"
    dmsetup message recorded 0 mark "$number"
    [ "$number" -le 3 ] || rm "files/gone$((number - 3))"
    [ "$number" -ne 20 ] || rm -r files/first
done
hashes files | grep kept >recorded-files
umount files
dmsetup remove --retry recorded
python3 -B "$(dirname "$0")/guest/recovered.py" "$disk" $target files base 15 recorded-files
