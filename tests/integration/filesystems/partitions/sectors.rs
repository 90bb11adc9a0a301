//! Tables for sectors of one size, read where nothing tells it.

use super::disk::Disk;
use super::{MBR_16, THREE};
use crate::filesystems::proof::MIB;

const KIB: u64 = 1 << 10;

const ELSEWHERE: &str = "its MBR has partitions with content in two sector sizes";

#[test]
fn a_gpt_for_sectors_of_4096_bytes_is_found_on_a_device_and_in_a_file_as_root() {
    let disk = Disk::new(
        "gpt-4k",
        16 * MIB,
        4096,
        "label: gpt\nstart=256,size=512\nsize=1024\n",
    );
    disk.swap_in(1).swap_in(2);
    disk.assert_agreed("GPT");
    disk.assert_comes_back();
    // As the device tells.
    disk.assert_device_agreed("GPT");
    // A device with sectors of 512 bytes has no partitions by it.
    disk.assert_device_with(512, "its MBR announces a GPT, but there is none");
}

#[test]
fn a_file_with_tables_for_two_sizes_of_sectors_is_copied_whole_as_root() {
    let disk = Disk::new("gpt-two-4k", 16 * MIB, 4096, "label: gpt\nstart=256,size=512\n");
    let other = Disk::new("gpt-two-512", 16 * MIB, 512, THREE);
    disk.swap_in(1);
    disk.edit(|edit| edit.splice(&other.bytes(), 16 * MIB - 33 * 512..16 * MIB));
    disk.assert_whole("it has two GPTs, for two sector sizes");
}

#[test]
fn an_mbr_counts_in_sectors_of_the_device_as_root() {
    let script = "label: dos\nstart=256,size=512\nstart=1024,size=2048,type=5\nstart=1280,size=256\nstart=1792,size=256\n";
    let disk = Disk::new("mbr-4k", 16 * MIB, 4096, script);
    disk.swap_in(1).swap_in(5).swap_in(6);
    let regions = disk.assert_device_agreed("MBR");
    assert_eq!(regions[1].name, Some("swap"));
    // In a file they would be elsewhere, but something is here.
    disk.assert_whole(ELSEWHERE);
}

#[test]
fn what_a_table_for_smaller_sectors_left_in_a_file_is_not_believed_as_root() {
    let disk = Disk::new("mbr-left", 16 * MIB, 4096, "label: dos\nstart=256,size=512\n");
    // An area from before, where the partition would be in sectors of 512 bytes.
    disk.swap_at(128 * KIB..384 * KIB);
    assert_eq!(disk.regions()[1].used, 4096);
    disk.swap_in(1);
    disk.assert_whole(ELSEWHERE);
    let regions = disk.assert_device_agreed("MBR");
    assert_eq!((regions[1].start(), regions[1].used), (MIB, 4096));
    // Sectors of 1024 and 2048 bytes exist, too; what lies there is known by its name only.
    for start in [256 * KIB, 512 * KIB, MIB] {
        disk.edit(|edit| {
            for place in [256 * KIB, 512 * KIB, MIB] {
                edit.put(place, &[0x5a; 4096]);
            }
            edit.put(start, b"LUKS\xba\xbe\0\x02");
        });
        disk.assert_whole(ELSEWHERE);
    }
}

#[test]
fn sectors_for_which_the_disk_is_too_small_are_none_that_it_has_as_root() {
    let disk = Disk::new("mbr-too-small", 16 * MIB, 512, MBR_16);
    disk.swap_in(1);
    disk.edit(|edit| edit.put(2 * MIB, b"LUKS\xba\xbe\0\x02"));
    let regions = disk.assert_agreed("MBR");
    assert_eq!(regions[1].used, 4096);
}
