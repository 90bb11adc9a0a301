//! GPTs are there twice: what counts if they are not the same.

use super::THREE;
use super::disk::Disk;
use super::edits::Header;
use crate::filesystems::proof::MIB;

#[test]
fn one_table_is_enough_as_root() {
    let wrecks: [(&str, &[u64]); 4] = [
        ("primary", &[512 + 8]),
        ("primary-entries", &[1024 + 32]),
        ("backup", &[16 * MIB - 512 + 24]),
        ("backup-entries", &[16 * MIB - 33 * 512 + 32]),
    ];
    for (name, places) in wrecks {
        let disk = Disk::new(&format!("gpt-{name}"), 16 * MIB, 512, THREE);
        disk.swap_in(1).swap_in(2).swap_in(3);
        let before = disk.assert_agreed("GPT").len();
        disk.wreck(places);
        assert_eq!(disk.assert_agreed("GPT").len(), before);
        disk.assert_comes_back();
    }
}

#[test]
fn a_disk_whose_tables_are_both_damaged_is_copied_whole_as_root() {
    let disk = Disk::new("gpt-both", 16 * MIB, 512, THREE);
    disk.swap_in(1);
    disk.wreck(&[1024 + 32, 16 * MIB - 512 + 24]);
    disk.assert_whole("GPT entries at 0x400: checksum is");
    disk.wreck(&[512]);
    disk.assert_whole("GPT header at 0xfffe00: checksum is");
    disk.wreck(&[16 * MIB - 512]);
    disk.assert_whole("its MBR announces a GPT, but there is none");
}

#[test]
fn tables_that_disagree_are_both_believed_as_root() {
    let disk = Disk::new("gpt-disagree", 16 * MIB, 512, THREE);
    let other = "label: gpt\nstart=1M,size=2M\nstart=5M,size=2M\nstart=10M,size=2M\n";
    let other = Disk::new("gpt-disagree-too", 16 * MIB, 512, other);
    disk.swap_in(1).swap_in(2).swap_in(3).swap_at(10 * MIB..12 * MIB);
    // The last 33 sectors are the backup.
    disk.edit(|edit| edit.splice(&other.bytes(), 16 * MIB - 33 * 512..16 * MIB));
    let told: Vec<_> = disk.regions()[1..]
        .iter()
        .map(|region| (region.start() / MIB, region.used))
        .collect();
    // Where they overlap, all of it is in use.
    let expected = [(1, 4096), (4, 2 * MIB), (5, 2 * MIB), (7, 4096), (10, 4096)];
    assert_eq!(told, expected);
}

#[test]
fn a_header_that_is_not_meant_for_its_place_is_as_good_as_damaged_as_root() {
    let disk = Disk::new("gpt-elsewhere", 16 * MIB, 512, THREE);
    disk.swap_in(1).swap_in(2).swap_in(3);
    let before = disk.parts();
    disk.edit(|edit| {
        // What only the backup has right.
        edit.gpt_entry(1024, 2048, 20479);
        Header::at(512).u64(24, 2).write(edit);
    });
    assert_eq!(disk.assert_agreed("GPT").len(), before.len() + 1);
    assert_eq!(disk.parts(), before);
}

#[test]
fn a_table_that_is_whole_but_odd_is_not_replaced_by_the_other_as_root() {
    let with = |name: &str, words: &str, header: u64, change: &dyn Fn(Header) -> Header| {
        let disk = Disk::new(&format!("gpt-odd-{name}"), 24 * MIB, 512, THREE);
        disk.swap_in(1).swap_in(2);
        disk.edit(|edit| change(Header::at(header)).write(edit));
        disk.assert_whole(words);
    };
    let (primary, backup) = (512, 24 * MIB - 512);
    for header in [primary, backup] {
        let name = |what: &str| format!("{what}-{header}");
        // Others use it nevertheless.
        with(&name("outside"), "StartingLBA is 0x800", header, &|header| {
            header.u64(40, 0x801)
        });
        with(&name("revision"), "Revision is 0x20000", header, &|header| {
            header.u32(8, 0x2_0000)
        });
    }
    with("long", "more than 16777216 bytes", primary, &|header| {
        header.entries(17 << 13)
    });
    with("far", "GPT entries at 0x1800000 would end", primary, &|header| {
        header.u64(72, 24 * 2048)
    });
}

#[test]
fn a_table_at_the_end_that_the_primary_does_not_know_counts_too_as_root() {
    let disk = Disk::new("gpt-third", 16 * MIB, 512, THREE);
    let other = Disk::new("gpt-third-too", 20 * MIB, 512, "label: gpt\nstart=12M,size=2M\n");
    disk.swap_in(1).swap_in(2).swap_in(3);
    disk.resize(20 * MIB);
    let end = 20 * MIB - 33 * 512..20 * MIB;
    disk.edit(|edit| edit.splice(&other.bytes(), end));
    disk.swap_at(12 * MIB..14 * MIB);
    let starts = |disk: &Disk| -> Vec<_> {
        let parts = disk.parts().into_iter();
        parts.map(|(_, range)| range.start / MIB).collect()
    };
    assert_eq!(starts(&disk), [1, 4, 7, 12]);
    // One that says what makes no sense is not passed over.
    let header = 20 * MIB - 512;
    disk.edit(|edit| Header::at(header).u32(8, 0x2_0000).write(edit));
    disk.assert_whole("Revision is 0x20000");
    // A damaged one is.
    disk.wreck(&[header + 24]);
    assert_eq!(starts(&disk), [1, 4, 7]);
}
