//! Copies of a Btrfs that is in use, as a snapshot of its disk is: at any moment, all that was synced is in them.
//!
//! The disk is a file on an XFS, which copies it at one moment by sharing its extents.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mkqcow2::volumes::{State, Treatment};
use rustix::fs::FallocateFlags;

use super::super::patched::Patched;
use super::super::proof::btrfs::{Btrfs, scrub};
use super::super::proof::xfs::Xfs;
use super::super::proof::{Filesystem, Listing, MIB, Place, mounted};
use super::{has_balance, pause_balance};
use crate::support::loops::{Loop, Mount};
use crate::support::{Dice, noise, tool};

/// Of the disk.
const SIZE: u64 = 120 * MIB;

/// What free bytes become in a copy.
const POISON: u8 = 0xa5;

/// A Btrfs that is in use, and copies of it.
struct Machine {
    root: Mount,
    device: Loop,
    disk: PathBuf,
    copies: Vec<(PathBuf, Listing)>,
    dice: Dice,
    files: u64,
    /// Unmounted last.
    below: Mount,
    below_device: Loop,
    place: Place,
}

impl Machine {
    fn new(name: &str, options: &'static str, mount: &str) -> Self {
        // What copies differ in is there only once.
        let place = Place::new(&format!("btrfs-crash-{name}"), 3 * SIZE);
        let image = place.dir.join("xfs.raw");
        File::create(&image).unwrap().set_len(8 * SIZE).unwrap();
        Xfs::new("-m reflink=1").make(&image);
        let below_device = Loop::over(&image);
        let below = Mount::new("rw", below_device.path(), place.dir.join("below"));
        let disk = below.join("disk.raw");
        File::create(&disk).unwrap().set_len(SIZE).unwrap();
        Btrfs::new(options).make(&disk);
        let device = Loop::over(&disk);
        let root = Mount::new(mount, device.path(), place.dir.join("crashing"));
        for directory in 0..3 {
            fs::create_dir(root.join(&format!("{directory}"))).unwrap();
        }
        fs::write(root.join("large"), noise(1, 20_000_000)).unwrap();
        let mut machine = Self {
            root,
            device,
            disk,
            copies: Vec::new(),
            dice: Dice::new(name.len() as u64),
            files: 0,
            below,
            below_device,
            place,
        };
        machine.sync();
        machine
    }

    fn sync(&mut self) {
        tool("sync", ["-f", self.root.point().to_str().unwrap()]);
    }

    fn path(&self) -> &str {
        self.root.point().to_str().unwrap()
    }

    /// Writes a file and syncs it, or does not.
    fn write(&mut self, is_synced: bool) {
        let (number, length) = (self.files, self.dice.below(60_000));
        self.files += 1;
        let directory = if is_synced { number % 3 } else { 2 };
        let path = self.root.join(&format!("{directory}/{number}-{is_synced}"));
        let file = File::create(path).unwrap();
        if number.is_multiple_of(5) {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 3 * length + 4096).unwrap();
        }
        file.write_all_at(&noise(number, length as usize), 4096 * (number % 2))
            .unwrap();
        if is_synced {
            file.sync_all().unwrap();
        }
    }

    /// Deletes a file that was not synced, which may be in no copy.
    fn delete(&mut self) {
        let number = self.dice.below(self.files);
        let _ = fs::remove_file(self.root.join(&format!("2/{number}-false")));
    }

    /// Copies the disk as it is. What was synced must be in the copy.
    fn copy(&mut self, synced: &Listing) {
        let copy = self.below.join(&format!("copy-{}", self.copies.len()));
        let paths = [&self.disk, &copy].map(|path| path.to_str().unwrap());
        tool("cp", ["--reflink=always", paths[0], paths[1]]);
        self.copies.push((copy, synced.clone()));
    }

    /// What must not be lost.
    fn synced(&self) -> Listing {
        Listing::of(self.root.point(), true)
            .without(|path| path.to_string_lossy().ends_with("-false"))
            .and_perhaps_more()
    }

    /// Pulls the plug, and holds every copy. Tells how many were mapped, and how many had a log.
    #[track_caller]
    fn assert_copies(self) -> (usize, usize) {
        let Self {
            root,
            device,
            below,
            below_device,
            place,
            copies,
            ..
        } = self;
        drop(root);
        drop(device);
        let (mut mapped, mut logs) = (0, 0);
        for (copy, synced) in &copies {
            let bytes = fs::read(copy).unwrap();
            fs::remove_file(copy).unwrap();
            logs += usize::from(bytes[0x1_0060..0x1_0068] != [0; 8]);
            let allocation = Patched::new(&bytes).scan();
            mapped += usize::from(matches!(allocation.regions[0].treatment, Treatment::Mapped));
            let mut poisoned = bytes;
            for (range, state, _) in allocation.map.parts() {
                if state == State::Free {
                    poisoned[range.start as usize..range.end as usize].fill(POISON);
                }
            }
            let disk = place.dir.join("poisoned.raw");
            fs::write(&disk, poisoned).unwrap();
            mounted("nodiscard", &disk, place.dir.path(), &mut |root| {
                synced.assert_in(&Listing::of(root, true));
                settle(root);
                scrub(root);
            });
            Btrfs::new("").check(&disk);
            fs::remove_file(disk).unwrap();
        }
        drop(below);
        drop(below_device);
        (mapped, logs)
    }
}

/// Waits until what went on in the copy has come to its end.
fn settle(root: &Path) {
    let root = root.to_str().unwrap();
    let _ = Command::new("btrfs").args(["balance", "cancel", root]).output();
    tool("btrfs", ["subvolume", "sync", root]);
}

#[test]
fn what_was_synced_by_a_log_is_in_every_copy_as_root() {
    for (name, options, mount) in [
        ("dup", "", "commit=300,nodiscard"),
        ("mixed", "--mixed -R ^free-space-tree", "commit=300,nodiscard"),
        (
            "compressed",
            "--csum xxhash -n 4096",
            "commit=300,nodiscard,compress-force=zstd",
        ),
    ] {
        let mut machine = Machine::new(name, options, mount);
        for _ in 0..7 {
            for _ in 0..12 {
                machine.write(true);
                machine.write(false);
                machine.delete();
            }
            let synced = machine.synced();
            machine.copy(&synced);
        }
        let (mapped, logs) = machine.assert_copies();
        assert_eq!(mapped, 7, "{name}");
        assert!(logs >= 6, "{name}: only {logs} copies have logs");
    }
}

/// The kernel commits each second, and when it is asked to.
#[test]
fn a_copy_in_the_middle_of_a_transaction_has_what_was_synced_as_root() {
    let mut machine = Machine::new("transactions", "", "commit=1,nodiscard");
    for round in 0..15 {
        for number in 0..30 {
            machine.write(number % 10 == 0);
            machine.delete();
        }
        let synced = machine.synced();
        let sync = (round % 3 == 0).then(|| {
            let path = machine.path().to_owned();
            std::thread::spawn(move || tool("sync", ["-f", &path]))
        });
        machine.copy(&synced);
        if let Some(sync) = sync {
            sync.join().unwrap();
        }
    }
    let (mapped, _) = machine.assert_copies();
    assert_eq!(mapped, 15);
}

#[test]
fn a_copy_of_a_frozen_filesystem_has_no_log_as_root() {
    let mut machine = Machine::new("frozen", "-d single -m single", "commit=300,nodiscard");
    for _ in 0..5 {
        for number in 0..20 {
            machine.write(number % 2 == 0);
        }
        let synced = machine.synced();
        let root = machine.path().to_owned();
        tool("fsfreeze", ["-f", &root]);
        machine.copy(&synced);
        tool("fsfreeze", ["-u", &root]);
    }
    assert_eq!(machine.assert_copies(), (5, 0));
}

#[test]
fn a_copy_during_a_balance_has_what_was_synced_as_root() {
    let mut machine = Machine::new("balance", "", "commit=1,nodiscard");
    for round in 0..3 {
        let mut balance = Command::new("btrfs");
        let balance = balance.args(["balance", "start", "--full-balance", machine.path()]);
        let mut balance = balance.stdout(std::process::Stdio::null()).spawn().unwrap();
        let mut copies = 0;
        while copies < 4 || (balance.try_wait().unwrap().is_none() && copies < 5) {
            for number in 0..4 {
                machine.write(number == 0);
            }
            let synced = machine.synced();
            machine.copy(&synced);
            copies += 1;
        }
        if round == 1 {
            let _ = Command::new("btrfs")
                .args(["balance", "pause", machine.path()])
                .output();
            let synced = machine.synced();
            machine.copy(&synced);
        }
        balance.wait().unwrap();
        let _ = Command::new("btrfs")
            .args(["balance", "cancel", machine.path()])
            .output();
    }
    let count = machine.copies.len();
    assert_eq!(machine.assert_copies().0, count);
}

/// In the copies, it goes on.
#[test]
fn a_copy_with_a_paused_balance_has_what_was_synced_as_root() {
    let mut machine = Machine::new("paused", "", "commit=300,nodiscard");
    pause_balance(machine.path());
    for _ in 0..3 {
        for number in 0..20 {
            machine.write(number % 2 == 0);
            machine.delete();
        }
        let synced = machine.synced();
        machine.copy(&synced);
    }
    assert!(machine.copies.iter().all(|(copy, _)| has_balance(copy)));
    assert_eq!(machine.assert_copies(), (3, 3));
}

#[test]
fn a_copy_while_a_snapshot_is_deleted_has_what_was_synced_as_root() {
    let mut machine = Machine::new(
        "deleted",
        "-R quota,free-space-tree -n 4096",
        "commit=1,nodiscard",
    );
    let root = machine.path().to_owned();
    for round in 0..3 {
        let snapshot = format!("{root}/snapshot-{round}");
        for _ in 0..120 {
            machine.write(false);
        }
        machine.sync();
        tool("btrfs", ["-q", "subvolume", "snapshot", &root, &snapshot]);
        for _ in 0..60 {
            machine.delete();
        }
        machine.write(true);
        machine.sync();
        tool("btrfs", ["-q", "subvolume", "delete", "-C", &snapshot]);
        for _ in 0..4 {
            machine.write(true);
            let synced = machine.synced();
            machine.copy(&synced);
        }
    }
    assert_eq!(machine.assert_copies().0, 12);
}
