#!/bin/sh
# RAID 1 by the kernel's md, in each version of its metadata and each state in which it can be found: each member is
# imaged, lost and restored; the array is assembled of what came back, and has every file.
# Limit: 300 s
set -eu
. "$(dirname "$0")/guest/lib.sh"

disk 16
one=$disk
disk 16
other=$disk
size=$(sectors "$one")
# So that a sector can fail; and only then is it what the array stands on.
mapped failing "0 $size linear $other 0"
failing=/dev/mapper/failing
limits=/proc/sys/dev/raid/speed_limit
undo "echo 1000 >${limits}_min; echo 200000 >${limits}_max"
undo 'mdadm -q --stop /dev/md7 2>/dev/null'

# array OPTION...: /dev/md7 of the two, with files in it, on $array/files.
array() {
    mdadm -q --create /dev/md7 --level 1 --raid-devices 2 --run "$@"
    mke2fs -q -F -t ext4 -b 1024 -J size=1 -E nodiscard /dev/md7
    mount_at files /dev/md7 -o noinit_itable
    fill files some 2
    secret files/deleted 1000
    sync
    rm files/deleted
    sync
}

stopped() {
    hashes files >recorded
    umount files
    mdadm -q --stop /dev/md7
    blockdev --flushbufs "$one" "$other"
}

# imaged HOW MEMBER...: each into an image; HOW is mapped (what its filesystem has deleted is left out) or whole.
imaged() {
    how=$1
    shift
    for member; do
        expect 0 mkqcow2 map --regions "$member"
        case $how in
            mapped) grep -q ': ext4, .* free$' said || fail "$member is not mapped" ;;
            whole) ! grep -q ' free$' said || fail "$member is mapped" ;;
        esac
        image=$(basename "$member").qcow2
        expect 0 mkqcow2 "$member" "$image"
        grep -q 'do-not-keep deleted' "$member" || fail 'the deleted is not even on the disk'
        if grep -q 'do-not-keep deleted' "$image"; then found=whole; else found=mapped; fi
        [ $found = "$how" ] || fail "$member is copied as if $found"
    done
}

# comes_back MEMBER...: lost and restored; then the array of them has its files.
comes_back() {
    for member; do
        lose "$member"
        expect 0 mkqcow2 restore --used-only "$(basename "$member").qcow2" "$member"
    done
    expect 0 mdadm --assemble --run /dev/md7 "$@"
    mount_at files /dev/md7 -o noinit_itable
    same_files recorded files
    umount files
    expect 0 e2fsck -fn /dev/md7
    mdadm -q --stop /dev/md7
    for member; do
        lose "$member"
    done
}

# In sync, with each version of the metadata, which lies at the end (0.90, 1.0) or the beginning (1.1, 1.2); once with
# a bitmap of what is about to be written.
for metadata in 0.90 1.0 1.1 1.2; do
    bitmap='--bitmap internal --bitmap-chunk 64K'
    [ $metadata = 1.2 ] || bitmap='--bitmap none'
    # shellcheck disable=SC2086 # options
    array --metadata $metadata $bitmap --assume-clean "$one" $failing
    stopped
    imaged mapped "$one" $failing
    comes_back "$one" $failing
done

# Degraded: one that failed, later than which there were changes. It is the other that counts.
array --metadata 1.2 --assume-clean "$one" $failing
mdadm -q /dev/md7 --fail $failing --remove $failing
fill files later 1
stopped
imaged mapped "$one"
comes_back "$one"
lose $failing

# While its second half is not made equal to the first yet.
echo 1 >${limits}_min
echo 1 >${limits}_max
array --metadata 1.2 "$one" $failing
grep -q resync /proc/mdstat || fail 'it does not resync'
stopped
imaged whole "$one" $failing
comes_back "$one" $failing
echo 200000 >${limits}_max

# With sectors in the log of bad blocks: they failed when they were written.
array --metadata 1.2 --assume-clean "$one" $failing
remap failing "0 10000 linear $other 0
    10000 8 error
    10008 $((size - 10008)) linear $other 10008"
secret files/deleted 12000 || true
sync
rm files/deleted
remap failing "0 $size linear $other 0"
stopped
mdadm --examine-badblocks $failing >bad
grep -q ' for ' bad || fail 'no bad blocks are logged'
imaged mapped "$one"
imaged whole $failing
comes_back "$one" $failing
