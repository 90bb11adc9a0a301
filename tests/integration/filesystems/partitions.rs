//! Partition tables, as sfdisk and sgdisk write and read them: every partition is found, and everything outside of
//! them comes back.

mod backup;
pub mod disk;
mod edits;
mod flaws;
mod sectors;
mod targets;

use mkqcow2::volumes::{Part, Region, Segments};

use super::proof::ext::Ext;
use super::proof::{MIB, Proof};
use super::swap::Swap;
use crate::support::tool;
use disk::{Disk, MBR_WITH_LOGICAL, sfdisk};
use edits::Header;

#[test]
fn a_gpt_disk_comes_back_with_its_filesystems_as_root() {
    let script = "label: gpt\nstart=1M,size=6M\nstart=8M,size=12M\nstart=21M,size=2M\n";
    Proof::disk("gpt", 24 * MIB)
        .laid_out_by(|disk| sfdisk(disk, script))
        .volume(MIB..7 * MIB, Ext::new("-t ext4"))
        .volume(8 * MIB..20 * MIB, Ext::new("-t ext2 -b 1024"))
        .volume(21 * MIB..23 * MIB, Swap::new())
        .made()
        .on_a_device()
        .holds();
}

#[test]
fn an_mbr_disk_comes_back_with_its_filesystems_as_root() {
    Proof::disk("mbr", 32 * MIB)
        .laid_out_by(|disk| sfdisk(disk, MBR_WITH_LOGICAL))
        .volume(MIB..5 * MIB, Swap::new())
        .volume(7 * MIB..15 * MIB, Ext::new("-t ext4"))
        .volume(17 * MIB..19 * MIB, Swap::new())
        .volume(26 * MIB..32 * MIB, Ext::new("-t ext3"))
        .made()
        .holds();
}

#[test]
fn all_partitions_of_a_gpt_are_found_with_numbers_and_names_as_root() {
    let disk = Disk::new("gpt-names", 16 * MIB, 512, "label: gpt\n");
    disk.sgdisk(
        "--clear --set-alignment=1 --new=7:2048:+1M --change-name=7:Grüße --new=2:40:60 --new=128:20000:32007",
    );
    let regions = disk.assert_agreed("GPT");
    let label = regions.iter().find_map(|region| match &region.part {
        Some(Part::Partition { number: 7, label }) => label.clone(),
        _ => None,
    });
    assert_eq!(label.as_deref(), Some("Grüße"));
    disk.swap_in(7).swap_in(128).assert_comes_back();
}

#[test]
fn logical_partitions_are_found_one_after_another_as_root() {
    let disk = Disk::new("mbr-logical", 32 * MIB, 512, MBR_WITH_LOGICAL);
    for number in [1, 3, 5, 6, 7, 8] {
        disk.swap_in(number);
    }
    let regions = disk.assert_agreed("MBR");
    assert!(
        regions[1..].iter().all(|region| region.used == 4096),
        "{regions:?}"
    );
    disk.assert_comes_back();
}

#[test]
fn a_third_entry_of_a_logical_table_counts_if_it_fits_as_it_does_for_linux_as_root() {
    let disk = Disk::new("mbr-odd", 32 * MIB, 512, MBR_WITH_LOGICAL);
    let before = disk.parts();
    // From here to the end of its partition, at 19 MiB.
    let link = disk.ebrs()[1];
    let length = ((19 * MIB - link) / 512) as u32;
    for (first, sectors) in [(length - 100, 101), (0x4000_0000, 128), (u32::MAX, u32::MAX)] {
        disk.edit(|edit| edit.mbr_entry(link, 2, 0x83, first, sectors));
        assert_eq!(disk.parts(), before);
    }
    disk.edit(|edit| edit.mbr_entry(link, 3, 0x83, 64, 128));
    let found = disk.parts();
    assert!(
        found.contains(&(7, link + 64 * 512..link + 192 * 512)),
        "{found:?}"
    );
    assert_eq!(found.len(), before.len() + 1);
}

#[test]
fn logical_partitions_in_a_circle_are_not_believed_as_root() {
    for link_to in [0, 10 * 2048] {
        let disk = Disk::new(&format!("mbr-circle-{link_to}"), 32 * MIB, 512, MBR_WITH_LOGICAL);
        let last = disk.ebrs().pop().unwrap();
        disk.edit(|edit| edit.mbr_entry(last, 1, 5, link_to, 4096));
        disk.assert_whole("its logical partitions are chained in a circle");
    }
}

#[test]
fn more_logical_partitions_than_anybody_has_are_not_believed_as_root() {
    let disk = Disk::new(
        "mbr-many",
        32 * MIB,
        512,
        "label: dos\nstart=2048,size=60000,type=5\n",
    );
    let link = |i: u32| MIB + u64::from(i) * 2048;
    let chain = |links: u32| {
        disk.edit(|edit| {
            for i in 0..links {
                edit.mbr_signature(link(i));
                edit.mbr_entry(link(i), 0, 0x83, 1, 3);
                edit.mbr_entry(link(i), 1, 5, (i + 1) * 4, 4);
            }
            edit.mbr_signature(link(links));
        });
    };
    chain(255);
    assert_eq!(disk.parts().len(), 255);
    chain(256);
    disk.assert_whole("more than 256 logical partitions");
}

#[test]
fn a_partition_that_covers_the_table_of_another_is_not_believed_as_root() {
    let disk = Disk::new("mbr-covers", 32 * MIB, 512, MBR_WITH_LOGICAL);
    disk.swap_in(5);
    let first = disk.ebrs()[0];
    // Up to where the next table is, and one sector more.
    let next = (disk.ebrs()[1] - first) / 512;
    disk.edit(|edit| edit.mbr_entry(first, 0, 0x83, 2048, next as u32 - 2048));
    assert!(disk.parts().len() > 3);
    disk.edit(|edit| edit.mbr_entry(first, 0, 0x83, 2048, next as u32 - 2047));
    disk.assert_whole("a partition overlaps a partition table");
}

#[test]
fn a_hybrid_mbr_adds_its_partitions_as_root() {
    let script = "label: gpt\nstart=1M,size=2M\nstart=4M,size=2M\nstart=7M,size=2M\n";
    let disk = Disk::new("hybrid", 16 * MIB, 512, script);
    disk.swap_in(1).swap_in(2);
    disk.sgdisk("--hybrid=1:3");
    disk.assert_agreed("GPT and MBR");
    disk.assert_comes_back();

    // One that the GPT does not have.
    disk.edit(|edit| edit.mbr_entry(0, 3, 0x82, 10 * 2048, 4096));
    disk.swap_at(10 * MIB..12 * MIB);
    let regions = disk.regions();
    let added = regions
        .iter()
        .find(|region| region.segments == Segments::one(10 * MIB..12 * MIB));
    assert_eq!(added.unwrap().used, 4096);
    assert_eq!(regions.len(), 5);

    // One that overlaps with another, and one that covers the GPT.
    disk.edit(|edit| edit.mbr_entry(0, 3, 0x82, 8 * 2048, 4096));
    let regions = disk.regions();
    let overlap = regions.iter().find(|region| region.start() == 8 * MIB).unwrap();
    assert_eq!(overlap.why_whole().unwrap(), "it overlaps with another partition");
    disk.edit(|edit| edit.mbr_entry(0, 3, 0x82, 33, 128));
    disk.assert_whole("a partition overlaps a partition table");
}

const THREE: &str = "label: gpt\nstart=1M,size=2M\nstart=4M,size=2M\nstart=7M,size=2M\n";

#[test]
fn overlapping_partitions_are_copied_whole_as_root() {
    let disk = Disk::new(
        "mbr-overlap",
        16 * MIB,
        512,
        "label: dos\nstart=1M,size=4M\nstart=8M,size=4M\n",
    );
    disk.swap_in(1).swap_in(2);
    disk.edit(|edit| edit.mbr_entry(0, 2, 0x83, 4 * 2048, 4096));
    let regions = disk.regions();
    let whys: Vec<_> = regions[1..].iter().map(Region::why_whole).collect();
    let overlaps = Some("it overlaps with another partition".to_owned());
    assert_eq!(whys, [overlaps.clone(), overlaps, None]);
    assert_eq!(regions[0].used, 16 * MIB - 4 * MIB + 4096);
}

#[test]
fn a_partition_past_the_end_makes_the_disk_one_that_is_not_all_there_as_root() {
    let disk = Disk::new("mbr-past", 16 * MIB, 512, MBR_16);
    disk.swap_in(1);
    disk.edit(|edit| edit.mbr_entry(0, 1, 0x83, 8 * 2048, 8 * 2048 + 1));
    disk.assert_whole("partition at 0x800000 would end at 0x1000200, past the end at 0x1000000");
    disk.edit(|edit| edit.mbr_entry(0, 1, 0x83, u32::MAX, u32::MAX));
    disk.assert_whole("partition at 0x1fffffffe00 would end at 0x3fffffffc00");
}

const MBR_16: &str = "label: dos\nstart=1M,size=4M\nstart=8M,size=4M\n";

#[test]
fn a_disk_that_was_cut_short_is_copied_whole_and_one_that_grew_is_not_as_root() {
    let disk = Disk::new("gpt-resized", 16 * MIB, 512, THREE);
    disk.swap_in(1).swap_in(2).swap_in(3);
    disk.resize(20 * MIB);
    disk.assert_agreed("GPT");
    disk.assert_comes_back();
    disk.resize(12 * MIB);
    disk.assert_whole("LastUsableLBA is 0x7fde, expected a sector of this disk");
}

#[test]
fn entries_of_another_size_and_number_are_read_as_root() {
    let disk = Disk::new("gpt-256", 16 * MIB, 512, THREE);
    disk.swap_in(1).swap_in(2).swap_in(3);
    let before = disk.parts();
    // 64 entries of 256 bytes take as much room as 128 of 128.
    disk.edit(|edit| {
        for (header, entries) in [(512, 1024), (16 * MIB - 512, 16 * MIB - 33 * 512)] {
            edit.spread_entries(entries);
            Header::at(header).entry_size(256).entries(64).write(edit);
        }
    });
    assert_eq!(disk.parts(), before);

    let disk = Disk::new("gpt-4096", 16 * MIB, 512, "label: gpt\n");
    disk.sgdisk("--resize-table=4096 --new=3001:4096:+1M --new=2:8192:+1M");
    disk.swap_in(3001);
    let regions = disk.assert_agreed("GPT");
    let part = Part::Partition {
        number: 3001,
        label: None,
    };
    assert_eq!(regions[1].part, Some(part));
    assert_eq!(regions[1].used, 4096);
    disk.assert_comes_back();
}

#[test]
fn so_many_partitions_that_nobody_has_them_are_not_believed_as_root() {
    let disk = Disk::new("gpt-many", 16 * MIB, 512, "label: gpt\n");
    disk.sgdisk("--clear --resize-table=2048 --set-alignment=1 --new=1:4096:4099");
    disk.wreck(&[16 * MIB - 512]);
    for (last, words) in [(1024, ""), (1025, "more than 1024 volumes")] {
        disk.edit(|edit| {
            for number in 1..last {
                edit.gpt_copy(1024, number, 4096 + number * 8, 4099 + number * 8);
            }
            Header::at(512).write(edit);
        });
        if words.is_empty() {
            assert_eq!(disk.assert_agreed("GPT").len(), 1025);
        } else {
            disk.assert_whole(words);
        }
    }
}

#[test]
fn a_gpt_that_contradicts_itself_is_not_believed_as_root() {
    let with = |name: &str, words: &str, change: &dyn Fn(Header) -> Header| {
        let disk = Disk::new(&format!("gpt-{name}"), 16 * MIB, 512, THREE);
        disk.swap_in(1);
        disk.wreck(&[16 * MIB - 512]);
        disk.edit(|edit| change(Header::at(512)).write(edit));
        disk.assert_whole(words);
    };
    with("fine-but", "MyLBA is 0x2, expected 0x1", &|header| {
        header.u64(24, 2)
    });
    with("revision", "Revision is 0x20000", &|header| {
        header.u32(8, 0x2_0000)
    });
    with("short", "HeaderSize is 0x5b", &|header| header.u32(12, 91));
    with("long", "HeaderSize is 0x201", &|header| header.u32(12, 513));
    with("odd", "SizeOfPartitionEntry is 0xc0", &|header| {
        header.entry_size(192)
    });
    with("tiny", "SizeOfPartitionEntry is 0x40", &|header| {
        header.entry_size(64)
    });
    with("huge", "GPT entries at 0x400 would end at", &|header| {
        header.entries(u32::MAX)
    });
    with(
        "far",
        "GPT entries at 0xfffffffffffffe00 would end at",
        &|header| header.u64(72, u64::MAX / 512),
    );
    with(
        "outside",
        "StartingLBA is 0x800, expected a sector that",
        &|header| header.u64(40, 0x801),
    );
    with(
        "behind",
        "EndingLBA is 0x47ff, expected a sector that",
        &|header| header.u64(48, 0x47fe),
    );
}

#[test]
fn a_gpt_that_covers_itself_is_not_believed_as_root() {
    let rows = [
        // The first entry begins with the MBR, a header, or the entries, or ends with those of the backup.
        ("mbr", 0, 0, 4095),
        ("header", 1, 1, 4095),
        ("entries", 33, 33, 4095),
        ("backup", 34, 20480, 32735),
        ("backup-header", 34, 32767, 32767),
    ];
    for (name, usable, first, last) in rows {
        let disk = Disk::new(&format!("gpt-covers-{name}"), 16 * MIB, 512, THREE);
        disk.swap_in(2);
        disk.edit(|edit| {
            edit.gpt_entry(1024, first, last);
            let header = Header::at(512).u64(40, usable).u64(48, 32767);
            header.write(edit);
        });
        disk.assert_whole("a partition overlaps a partition table");
    }
    let disk = Disk::new("gpt-turned", 16 * MIB, 512, THREE);
    disk.edit(|edit| {
        edit.gpt_entry(1024, 4096, 4095);
        Header::at(512).write(edit);
        edit.wreck(16 * MIB - 512);
    });
    disk.assert_whole("EndingLBA is 0xfff");
}

#[test]
fn what_only_looks_like_a_partition_table_is_none_as_root() {
    let disk = Disk::new("mbr-none", 16 * MIB, 512, MBR_16);
    disk.swap_in(1);
    // One with code where the table would be.
    assert_eq!(disk.regions()[0].name, Some("MBR"));
    disk.edit(|edit| edit.put(446 + 16, &[0x41]));
    assert_eq!(disk.regions()[0].name, None);
    // A boot sector in which the filesystem is a partition, as mkfs.fat writes it.
    let fat = Disk::new("mbr-fat", 16 * MIB, 512, "label: dos\n");
    fat.edit(|edit| edit.mbr_entry(0, 0, 0x0c, 0, 32768));
    assert_eq!(fat.regions()[0].name, None);
    // No entries at all.
    let empty = Disk::new("mbr-empty", 16 * MIB, 512, "label: dos\n");
    assert_eq!(empty.regions()[0].name, None);
    assert_eq!(empty.regions()[0].used, 16 * MIB);
}

#[test]
fn a_partition_that_begins_with_the_table_is_not_all_that_the_table_says_as_root() {
    let disk = Disk::new("mbr-zero", 16 * MIB, 512, MBR_16);
    // Of a system that had all of the disk.
    disk.swap_at(0..16 * MIB).swap_in(1);
    disk.edit(|edit| edit.mbr_entry(0, 3, 0x83, 0, 2048));
    disk.assert_whole("it looks like partition table and like swap");

    // The extended partition, whose first table would be this one.
    let disk = Disk::new("mbr-zero-extended", 16 * MIB, 512, MBR_16);
    disk.swap_in(1);
    disk.edit(|edit| edit.mbr_entry(0, 3, 5, 0, 2048));
    disk.assert_whole("one of its partitions begins at sector 0, where the MBR is");
}

#[test]
fn a_protective_mbr_that_is_not_as_it_should_be_is_not_believed_as_root() {
    let disk = Disk::new("gpt-protective", 16 * MIB, 512, THREE);
    disk.swap_in(1);
    disk.edit(|edit| edit.mbr_entry(0, 0, 0xee, 2, 32766));
    disk.assert_whole("the GPT partition of its protective MBR does not begin at sector 1");
    // Linux would find the partitions of the MBR then.
    let disk = Disk::new("gpt-unprotected", 16 * MIB, 512, THREE);
    disk.edit(|edit| edit.mbr_entry(0, 0, 0x83, 1, 32766));
    let regions = disk.regions();
    assert_eq!((regions[0].name, regions.len()), (Some("MBR"), 2));
    assert_eq!(regions[1].segments, Segments::one(512..512 + 32766 * 512));
}

#[test]
fn a_disk_that_shares_volumes_with_others_is_known_and_copied_whole_as_root() {
    let disk = Disk::new("mbr-dynamic", 16 * MIB, 512, MBR_16);
    disk.swap_in(1);
    disk.edit(|edit| edit.mbr_entry(0, 1, 0x42, 8 * 2048, 2048));
    let disk_gpt = Disk::new("gpt-dynamic", 16 * MIB, 512, THREE);
    disk_gpt.swap_in(1);
    disk_gpt.sgdisk("--typecode=2:AF9B60A0-1431-4F62-BC68-3311714A69AD");
    let disk_spaces = Disk::new("gpt-spaces", 16 * MIB, 512, THREE);
    disk_spaces.swap_in(1);
    disk_spaces.sgdisk("--typecode=2:E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D");
    for (disk, name) in [
        (disk, "dynamic disk"),
        (disk_gpt, "dynamic disk"),
        (disk_spaces, "Storage Spaces"),
    ] {
        let regions = disk.regions();
        assert_eq!((regions[0].name, regions.len()), (Some(name), 1));
        assert_eq!(regions[0].why_whole().unwrap(), "free space not known");
        assert_eq!(regions[0].used, 16 * MIB);
    }
}

#[test]
fn a_disk_with_a_table_and_something_else_is_copied_whole_as_root() {
    let disk = Disk::new("gpt-iso", 16 * MIB, 512, THREE);
    disk.swap_in(1);
    // As images of CDs have it that start from disks too.
    disk.edit(|edit| edit.put(0x8001, b"CD001"));
    disk.assert_whole("it looks like ISO 9660 and like partition table");

    let disk = Disk::new("gpt-luks", 16 * MIB, 512, THREE);
    disk.swap_in(1);
    disk.edit(|edit| edit.put(4 * MIB, b"LUKS\xba\xbe\0\x02"));
    let regions = disk.regions();
    assert_eq!(regions[1].used, 4096);
    assert_eq!((regions[2].name, regions[2].used), (Some("LUKS2"), 2 * MIB));
    // The kernel has the same opinion of what is a table.
    let told = tool("blkid", ["-p", "-o", "export", disk.path().to_str().unwrap()]);
    assert!(told.contains("PTTYPE=gpt"), "{told}");
}
