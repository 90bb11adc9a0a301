//! Programs that write to an image and do not mark it as changed: some leave autoclear bit 63 set, and version 2 has none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::support::loops::Loop;
use crate::support::{Dir, are_same, poke, qemu, root};

const CLUSTER: u64 = 64 << 10;

/// COPIED in entries of tables.
const COPIED: u64 = 1 << 63;

/// 16 clusters, of which the first two and the last one hold data.
fn disk() -> Disk {
    Disk::hole(CLUSTER * 16)
        .data(0..CLUSTER * 2)
        .data(CLUSTER * 15..CLUSTER * 16)
}

/// An image that a program writes to which knows qcow2, but not what autoclear bits are for.
struct Writer {
    path: PathBuf,
}

impl Writer {
    fn get(&self, at: u64) -> u64 {
        let bytes = fs::read(&self.path).unwrap();
        u64::from_be_bytes(bytes[at as usize..][..8].try_into().unwrap())
    }

    fn put(&self, at: u64, value: u64) {
        poke(&self.path, at, &value.to_be_bytes());
    }

    fn l1(&self) -> u64 {
        self.get(40)
    }

    fn l2(&self) -> u64 {
        self.get(self.l1()) & !COPIED
    }

    /// Sets the refcount of a cluster of the file.
    fn count(&self, at: u64, references: u16) {
        let block = self.get(self.get(48));
        poke(&self.path, block + at / CLUSTER * 2, &references.to_be_bytes());
    }

    /// Appends a cluster to the file.
    fn append(&self, bytes: &[u8]) -> u64 {
        let at = fs::metadata(&self.path).unwrap().len();
        assert!(at.is_multiple_of(CLUSTER));
        let mut cluster = bytes.to_vec();
        cluster.resize(CLUSTER as usize, 0);
        poke(&self.path, at, &cluster);
        self.count(at, 1);
        at
    }

    /// Writes to a cluster of the disk that is nowhere yet.
    fn write_new(&self, number: u64) {
        let at = self.append(&vec![0x5a; CLUSTER as usize]);
        self.put(self.l2() + number * 8, at | COPIED);
    }

    /// Makes a snapshot: all that there is belongs to both.
    fn snapshot(&self) {
        let (l1, l2) = (self.l1(), self.l2());
        self.put(l1, l2);
        self.count(l2, 2);
        for entry in (0..16).map(|number| l2 + number * 8) {
            let value = self.get(entry);
            if value & COPIED != 0 {
                self.put(entry, value & !COPIED);
                self.count(value & !COPIED, 2);
            }
        }
        let its_l1 = self.append(&l2.to_be_bytes());
        let mut table = its_l1.to_be_bytes().to_vec();
        table.extend([0, 0, 0, 1, 0, 1, 0, 1]);
        table.resize(36, 0);
        table.extend([0, 0, 0, 16]);
        table.resize(48, 0);
        table.extend((CLUSTER * 16).to_be_bytes());
        table.extend(b"1s");
        let at = self.append(&table);
        poke(&self.path, 60, &[0, 0, 0, 1]);
        self.put(64, at);
    }
}

/// QEMU writes, and the image says that nothing happened.
fn qemu_writes_unmarked(image: &Path, cluster: u64) {
    let before = fs::read(image).unwrap();
    qemu::guest(image, &[format!("write -P 0x5a {} {CLUSTER}", cluster * CLUSTER)]);
    if before[7] == 3 {
        poke(image, 88, &before[88..96]);
    }
}

/// A disk that has another content in one cluster.
fn changed(cluster: u64) -> Disk {
    disk().bytes(cluster * CLUSTER, vec![0x5a; CLUSTER as usize])
}

/// Everything tells that an image in which a cluster was changed is perhaps not what it was, and restores what is in it
/// only if that is borne.
#[track_caller]
fn assert_is_told(dir: &Dir, cluster: u64, trace: &str) {
    let expected = changed(cluster).file(dir, "expected.raw");
    let warning = format!(
        "was changed since it was made by a program that did not mark it as changed, or is damaged: {trace}"
    );

    dir.run("restore disk.qcow2 copy.raw")
        .exits(1)
        .says("(--keep-going restores what can be read)")
        .says("was changed since it was made, or is damaged: ");
    assert!(!dir.join("copy.raw").exists());
    dir.run("restore --keep-going disk.qcow2 copy.raw")
        .exits(3)
        .says(&warning);
    assert!(are_same(&dir.join("copy.raw"), &expected));
    fs::remove_file(dir.join("copy.raw")).unwrap();
    dir.run("restore --used-only disk.qcow2 copy.raw")
        .exits(1)
        .says("another program wrote to it since it was made, or it is damaged");
    dir.run("verify disk.qcow2").exits(2).says(&warning);
    let info = dir.run("info disk.qcow2").says(&warning);
    assert!(
        !info.stdout().contains("not written to since"),
        "{}",
        info.stdout()
    );
    dir.run("map --format qcow2 disk.qcow2").exits(0).says(&warning);
    dir.run("check disk.qcow2")
        .exits(0)
        .prints(&format!("remark: {trace} [changed-unmarked]"));
    dir.run("compare expected.raw disk.qcow2").exits(0).says(&warning);
    dir.run("--base disk.qcow2 expected.raw more.qcow2")
        .exits(1)
        .says("was written to since it was made, or is damaged: what stands on it could be read wrong");
    assert!(!dir.join("more.qcow2").exists());
}

#[test]
fn a_cluster_at_the_end_of_the_file_shows_that_the_image_was_changed() {
    let dir = Dir::new("unmarked-append");
    for compat in ["1.1", "0.10"] {
        let path = disk().image(&dir, format!("--compat {compat}"));
        Writer { path: path.clone() }.write_new(7);
        qemu::run(dir.path(), "qemu-img", ["check", "-q", "disk.qcow2"]);

        assert_is_told(&dir, 7, "its file has grown");
    }
}

#[test]
fn a_cluster_in_the_place_of_the_checksums_shows_that_the_image_was_changed() {
    let dir = Dir::new("unmarked-overwritten");
    for compat in ["1.1", "0.10"] {
        let path = disk().image(&dir, format!("--compat {compat}"));
        qemu_writes_unmarked(&path, 7);

        assert_is_told(&dir, 7, "its checksums were overwritten");
    }
}

#[test]
fn a_snapshot_shows_that_the_image_was_changed_and_its_disk_is_what_it_was() {
    let dir = Dir::new("unmarked-snapshot");
    for compat in ["1.1", "0.10"] {
        let path = disk().image(&dir, format!("--compat {compat}"));
        Writer { path: path.clone() }.snapshot();
        qemu::run(dir.path(), "qemu-img", ["check", "-q", "disk.qcow2"]);

        let trace = "did not mark it as changed, or is damaged: it has snapshots";
        dir.run("restore disk.qcow2 copy.raw")
            .exits(0)
            .says(trace)
            .prints("checksums compared");
        assert!(are_same(&dir.join("copy.raw"), &dir.join("disk.raw")));
        dir.run("restore --used-only disk.qcow2 copy.raw")
            .exits(1)
            .says("another program wrote to it since it was made, or it is damaged");
        dir.run("verify disk.qcow2").exits(0).says(trace);
        dir.run("info disk.qcow2").exits(0).says(trace);
        let info = dir.run("info --json disk.qcow2").exits(0).json();
        assert_eq!(info["checksums"]["state"], "doubtful");
        dir.run("check disk.qcow2")
            .exits(0)
            .prints("remark: it has snapshots [changed-unmarked]");

        // What is written then goes to a new cluster.
        Writer { path: path.clone() }.write_new(0);
        dir.run("restore disk.qcow2 other.raw")
            .exits(1)
            .says("was changed since it was made, or is damaged: CRC-32 is");
    }
}

#[test]
fn a_cluster_that_is_changed_in_its_place_is_found_by_its_checksum() {
    let dir = Dir::new("unmarked-place");
    for compat in ["1.1", "0.10"] {
        let path = disk().image(&dir, format!("--compat {compat}"));
        qemu_writes_unmarked(&path, 1);
        let expected = changed(1).file(&dir, "expected.raw");

        // Nothing else tells version 3 from damage.
        let what = match compat {
            "1.1" => "64.00 KiB damaged at 0x10000 of the disk: CRC-32 is",
            _ => {
                "64.00 KiB damaged at 0x10000 of the disk: was changed since it was made, or is damaged: CRC-32 is"
            }
        };
        dir.run("restore disk.qcow2 copy.raw").exits(1).says(what);
        dir.run("restore --keep-going disk.qcow2 copy.raw").exits(3);
        assert!(are_same(&dir.join("copy.raw"), &expected));
        fs::remove_file(dir.join("copy.raw")).unwrap();
        dir.run("restore --used-only disk.qcow2 copy.raw")
            .exits(1)
            .says("CRC-32 is");
        dir.run("verify disk.qcow2").exits(2);
    }
}

#[test]
fn an_image_of_version_2_that_was_changed_is_no_source_unless_that_is_borne() {
    let dir = Dir::new("unmarked-source");
    let path = disk().image(&dir, "--compat 0.10");
    qemu_writes_unmarked(&path, 7);

    dir.run("--source-format qcow2 disk.qcow2 other.qcow2")
        .exits(1)
        .says("was changed since it was made, or is damaged: checksum table at")
        .says("pass --on-read-error=zero to go on, without a comparison");
    dir.run("--source-format qcow2 --on-read-error=zero disk.qcow2 other.qcow2")
        .exits(3);
    let expected = changed(7).file(&dir, "expected.raw");
    dir.run_with(["compare".as_ref(), expected.as_os_str(), "other.qcow2".as_ref()])
        .exits(0);
}

#[test]
fn an_image_of_version_2_that_was_changed_is_not_mounted() {
    let dir = Dir::new("unmarked-mounted");
    let path = disk().image(&dir, "--compat 0.10");
    qemu_writes_unmarked(&path, 7);
    fs::create_dir(dir.join("point")).unwrap();

    dir.run("mount disk.qcow2 point")
        .exits(1)
        .says("was changed since it was made, or is damaged: checksum table at")
        .says("mkqcow2 restore --keep-going restores it as it is");
}

#[test]
fn a_file_that_is_padded_with_zeros_is_what_it_was() {
    let dir = Dir::new("unmarked-padded");
    let path = disk().image(&dir, "");
    let length = fs::metadata(&path).unwrap().len();
    for more in [1, 4096, CLUSTER * 3] {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(length + more).unwrap();

        dir.run("restore --used-only disk.qcow2 copy.raw").exits(0);
        let verified = dir.run("verify disk.qcow2").exits(0);
        assert!(!verified.stderr().contains("warning"), "{}", verified.stderr());
        fs::remove_file(dir.join("copy.raw")).unwrap();
    }
    poke(&path, length, b"x");
    dir.run("restore --used-only disk.qcow2 copy.raw")
        .exits(1)
        .says("another program wrote to it since it was made, or it is damaged");
}

#[test]
fn what_lies_behind_an_image_on_a_device_is_no_change_as_root() {
    root::needed();
    let dir = Dir::new("unmarked-device");
    let path = disk().image(&dir, "");
    poke(&path, fs::metadata(&path).unwrap().len(), &[0x5a; 8192]);
    let device = Loop::over(&path);

    let run = dir
        .run_with(["verify".as_ref(), device.path().as_os_str()])
        .exits(0);

    assert!(!run.stderr().contains("warning"), "{}", run.stderr());
    dir.run_with([
        "restore".as_ref(),
        "--used-only".as_ref(),
        device.path().as_os_str(),
        "copy.raw".as_ref(),
    ])
    .exits(0);
}
