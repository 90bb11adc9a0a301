# What tests borrow. A test begins with: set -eu; . "$(dirname "$0")/guest/lib.sh"
#
# It runs in an empty directory of its own, in memory, and `undo` is how it leaves nothing behind.

undone_by=

# Undoes something at the end, the newest first, whatever comes of the test: undo 'umount files'
undo() {
    undone_by="$1
$undone_by"
}

at_end() {
    ended_with=$?
    trap - EXIT
    set +e
    eval "$undone_by"
    rm -rf ./*
    exit "$ended_with"
}
trap at_end EXIT
trap 'exit 143' TERM

fail() {
    echo "FAILED: $*"
    exit 1
}

# expect STATUS COMMAND...: what it says is in the file `said`, for `says`.
expect() {
    expected=$1
    shift
    ended=0
    "$@" >said 2>&1 || ended=$?
    cat said
    [ "$ended" = "$expected" ] || fail "status $ended, not $expected: $*"
}

# What the last command of `expect` must have said.
says() {
    grep -qF -- "$1" said || fail "it does not say: $1"
}

# disk MIB: makes $disk, a loop device of that size, all of it the marker that restored disks are found by: 0xa5.
disk() {
    disks=$((${disks-0} + 1))
    yes /run/marker | head -n "$1" | xargs cat >"disk$disks"
    disk=$(losetup --find --show "disk$disks")
    undo "losetup -d $disk"
}

# lose DEVICE: all that was on it is the marker.
lose() {
    yes /run/marker | head -n $(($(sectors "$1") / 2048)) | xargs cat >"$1"
    blockdev --flushbufs "$1"
}

# mapped NAME TABLE...: makes /dev/mapper/NAME.
mapped() {
    mapped=$1
    shift
    dmsetup create "$mapped" --table "$*"
    undo "dmsetup remove --retry $mapped"
}

# remap NAME TABLE...: another table for it, at once.
remap() {
    remapped=$1
    shift
    dmsetup suspend --nolockfs "$remapped"
    dmsetup load "$remapped" --table "$*"
    dmsetup resume "$remapped"
}

sectors() {
    blockdev --getsz "$1"
}

# mount_at DIRECTORY ARGUMENT...: arguments as to mount.
mount_at() {
    point=$1
    shift
    mkdir -p "$point"
    mount "$@" "$point"
    undo "umount -q $point"
}

# fill DIRECTORY NAME MIB: files of many sizes in a directory of its own.
fill() {
    mkdir "$1/$2"
    head -c "$3M" /dev/urandom >"$1/$2/large"
    for bytes in 0 1 511 4096 5000 70000 300000; do
        head -c "$bytes" /dev/urandom >"$1/$2/file$bytes"
    done
    # Made without gaps, and then with some.
    truncate -s 200000 "$1/$2/file5000"
}

# secret NAME SIZE: a file of that many kilobytes, each of its lines with NAME and `do-not-keep`.
secret() {
    yes "do-not-keep $(basename "$1") $(date +%N)" | head -c "${2}k" >"$1"
}

# The hash of every file, and what else there is.
hashes() {
    (
        cd "$1"
        find . -type f -exec md5sum {} + | sort -k 2
        find . ! -type f | sort
    )
}

# same_files FILE DIRECTORY: hashes that were recorded, and the files that there are now.
same_files() {
    [ "$(wc -l <"$1")" -gt 3 ] || fail "$1 records nothing"
    hashes "$2" | diff "$1" - || fail "the files in $2 are not those of $1"
}

# same_volumes HASHES...: HASHES/NAME are those of the files in /dev/vg/NAME, which is as its checker wants it.
same_volumes() {
    for recorded in "$@"; do
        volume=/dev/vg/$(basename "$recorded")
        mount_at point "$volume"
        same_files "$recorded" point
        umount point
        expect 0 e2fsck -fn "$volume"
    done
}

# Makes a volume group of devices: group NAME DEVICE...
group() {
    group=$1
    shift
    for device; do
        pvcreate -q "$device"
    done
    vgcreate -q "$group" "$@"
    undo "vgchange -q -an $group; vgremove -q -ff -y $group"
}
