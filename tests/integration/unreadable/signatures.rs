//! Sectors that tell what something is, and cannot be read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::slice::from_ref;

use serde_json::json;

use super::{damaged, disk_without, unreadable};
use crate::faults::Job;
use crate::support::{assert_equals, tool};

const MIB: u64 = 1 << 20;

/// An old ext4 in which nothing was ever deleted from the disk below, and a superblock of bcache over it.
fn bcache(name: &str) -> Job {
    let job = Job::new(name, 16 * MIB);
    let options = "-q -F -t ext4 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0";
    tool(
        "mkfs.ext4",
        options.split(' ').chain([job.disk.to_str().unwrap()]),
    );
    let file = File::options().write(true).open(&job.disk).unwrap();
    let magic = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
    file.write_all_at(magic, 4096 + 24).unwrap();
    job
}

#[test]
fn nothing_is_lost_of_a_bcache_over_an_old_ext4_whose_superblock_cannot_be_read_as_root() {
    let job = bcache("unreadable-bcache");
    let bad = 4096..4608;
    let _damaged = damaged(&job, from_ref(&bad));

    let run = job
        .dir
        .run("--json --on-read-error=zero damaged.raw image.qcow2")
        .exits(3);

    let run = run.says(
        "damaged.raw: warning: ext2/3/4: signature at 0x1018 cannot be read: Input/output error: copied whole\n",
    );
    assert_eq!(unreadable(&run), from_ref(&bad));
    assert_eq!(run.json()["data"], json!(16 * MIB));
    assert_equals(&disk_without(&job, from_ref(&bad)), &job.image());
}

#[test]
fn a_signature_that_cannot_be_read_stops_the_run_even_in_what_an_old_filesystem_calls_free_as_root() {
    let job = bcache("unreadable-free").with_old();
    // Where LUKS has a header, in case that the others are damaged.
    let _damaged = damaged(&job, from_ref(&(4 * MIB..4 * MIB + 512)));

    job.dir
        .run("damaged.raw image.qcow2")
        .exits(1)
        .says("cannot read at 0x400000: Input/output error");

    job.still_has_old();
}

#[test]
fn a_disk_whose_beginning_cannot_be_read_is_mapped_and_imaged_with_a_warning_as_root() {
    let job = Job::new("unreadable-beginning", 4 * MIB);
    let bad = 0..512;
    let _damaged = damaged(&job, from_ref(&bad));
    let warning = "damaged.raw: warning: signature at 0x0 cannot be read: Input/output error: copied whole\n";

    job.dir
        .run("map damaged.raw")
        .exits(0)
        .says(warning)
        .prints("source: copied whole: signature at 0x0 cannot be read: Input/output error\n")
        .prints("0x000000000000          4194304  used: data\n");
    let regions = job.dir.run("map --regions --json damaged.raw").exits(0).json();
    assert_eq!(regions[0]["treatment"], json!("whole"));
    let planned = warning.replace("copied whole", "would be copied whole");
    job.dir.run("-n damaged.raw image.qcow2").exits(0).says(&planned);
    job.dir
        .run("--on-read-error=zero damaged.raw image.qcow2")
        .exits(3)
        .says(warning);
    assert_equals(&disk_without(&job, from_ref(&bad)), &job.image());
}

#[test]
fn a_gpt_whose_first_header_cannot_be_read_is_named_and_its_partitions_are_found_as_root() {
    let job = Job::new("unreadable-gpt", 8 * MIB);
    let script = job.dir.join("script");
    fs::write(&script, "label: gpt\nstart=1M,size=2M\nstart=4M,size=2M\n").unwrap();
    let (disk, script) = (job.disk.to_str().unwrap(), script.to_str().unwrap());
    let sfdisk = "sfdisk --quiet --no-reread --no-tell-kernel --wipe=never \"$1\" < \"$2\"";
    tool("sh", ["-c", sfdisk, "sh", disk, script]);
    let bad = 512..1024;
    let _damaged = damaged(&job, from_ref(&bad));
    let warning = "warning: the primary GPT at 0x200 is damaged (signature at 0x200 cannot be read: Input/output \
                   error), the other one at 0x7ffe00 is good: sgdisk -e repairs that\n";

    job.dir
        .run("map --regions damaged.raw")
        .exits(0)
        .says(warning)
        .prints("  partition 2: nothing recognised, copied whole\n");
    job.dir
        .run("--on-read-error=zero damaged.raw image.qcow2")
        .exits(3)
        .says(warning);
    assert_equals(&disk_without(&job, from_ref(&bad)), &job.image());
}
