#!/bin/sh
# The kernel's own unreadable sectors, by dm-error: not a byte of the old image is lost to them. With
# --on-read-error=zero exactly those sectors are listed and zeros, and all around them is right.
set -eu
. "$(dirname "$0")/guest/lib.sh"

disk 12
good=$disk
fill . files 3
# Not only the marker: what is next to the holes must be told from what is elsewhere.
cat files/large files/large >"$good"
cp "$good" good.raw

# Two stretches: sectors 4099 to 4106 (4096 bytes) and a single one.
mapped bad "0 4099 linear $good 0
    4099 8 error
    4107 5000 linear $good 4107
    9107 1 error
    9108 $(($(sectors "$good") - 9108)) linear $good 9108"
bad=/dev/mapper/bad
expect 1 dd if=$bad of=/dev/null bs=1M status=none

# Stopped: no image, or the old one.
expect 1 mkqcow2 $bad new.qcow2
says /dev/mapper/bad
[ ! -e new.qcow2 ] || fail 'there is an image'
mkqcow2 -q good.raw old.qcow2
cp old.qcow2 image.qcow2
expect 1 mkqcow2 $bad image.qcow2
cmp old.qcow2 image.qcow2
rm old.qcow2

# Told, and zeros.
expect 3 mkqcow2 --on-read-error=zero $bad image.qcow2
grep 'unreadable: ' said >told
cat >expected <<END
mkqcow2: $bad: unreadable: 4096 bytes at $(printf '%#x' $((4099 * 512))), zeros in the image
mkqcow2: $bad: unreadable: 512 bytes at $(printf '%#x' $((9107 * 512))), zeros in the image
END
diff expected told || fail 'other ranges are told'
expect 0 mkqcow2 verify image.qcow2
expect 0 qemu-img check image.qcow2
expect 0 qemu-img convert -O raw image.qcow2 copy.raw
dd if=/dev/zero of=good.raw bs=512 seek=4099 count=8 conv=notrunc status=none
dd if=/dev/zero of=good.raw bs=512 seek=9107 count=1 conv=notrunc status=none
cmp good.raw copy.raw

# A whole disk that fails, as one that was unplugged: nothing is made of it.
remap bad "0 $(sectors "$good") flakey $good 0 0 1000"
cp image.qcow2 old.qcow2
expect 1 mkqcow2 $bad image.qcow2
cmp old.qcow2 image.qcow2
