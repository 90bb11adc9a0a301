//! When a filesystem is cut off, and what is on its disk then.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread::{self, sleep};
use std::time::Duration;

use super::Crash;
use super::story::{Stop, Story, Synced, SyncedFile};
use crate::filesystems::proof::xfs::Xfs;
use crate::filesystems::proof::{Filesystem as _, MIB, Marker, Place, until_let_go};
use crate::support::loops::{Loop, Mount, until};
use crate::support::{Dice, tool};

/// How many files are synced before a filesystem is cut off.
const SYNCED: u64 = 100;

/// How often a disk is copied in vain, until the last copy counts.
const TRIES: u64 = 12;

/// When a filesystem is cut off, while it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The kernel gives it up, without what is not in the log yet.
    ShutDown,
    /// A copy of all of the disk at once, as a snapshot is, or what a power cut leaves.
    Copied,
    /// The kernel gives it up, once all is in the log.
    Flushed,
    /// The same as `Copied`, a little later.
    CopiedLater,
    /// A copy while it is frozen.
    Frozen,
}

impl Moment {
    pub const ALL: [Self; 5] = [
        Self::ShutDown,
        Self::Copied,
        Self::Flushed,
        Self::CopiedLater,
        Self::Frozen,
    ];

    fn shares_blocks(self) -> bool {
        matches!(self, Self::Copied | Self::CopiedLater)
    }

    /// Lets it come. Returns what is on stable storage for certain, and the copy, if there is one already.
    #[track_caller]
    fn comes(
        self,
        story: Story,
        synced: &Synced,
        root: &Path,
        disk: &Path,
    ) -> (Vec<SyncedFile>, Option<Vec<u8>>) {
        let must_be = synced.until_now();
        let mount = root.to_str().unwrap();
        match self {
            Self::ShutDown | Self::Flushed => {
                let flag = if self == Self::Flushed { " -f" } else { "" };
                tool("xfs_io", ["-x", "-c", &format!("shutdown{flag}"), mount]);
                (must_be, None)
            }
            Self::Copied | Self::CopiedLater => (copied(story, synced, disk), None),
            Self::Frozen => {
                tool("xfs_freeze", ["-f", mount]);
                let copy = fs::read(disk).unwrap();
                tool("xfs_freeze", ["-u", mount]);
                (must_be, Some(copy))
            }
        }
    }
}

/// Copies a disk at once, if it can be in the middle of something.
#[track_caller]
fn copied(story: Story, synced: &Synced, disk: &Path) -> Vec<SyncedFile> {
    let path = disk.with_extension("snapshot");
    let mut tries = if story.takes_steps() { TRIES } else { 1 };
    loop {
        let must_be = synced.until_now();
        let copy = File::create(&path).unwrap();
        rustix::fs::ioctl_ficlone(&copy, File::open(disk).unwrap()).unwrap();
        tries -= 1;
        if tries == 0 || !pending(&path).is_empty() {
            return must_be;
        }
    }
}

/// The kinds of items in the log of which only the intent is there, and not that it was done.
#[track_caller]
pub fn pending(disk: &Path) -> BTreeSet<String> {
    let told = tool("xfs_logprint", ["-t", disk.to_str().unwrap()]);
    let mut pending = BTreeSet::new();
    for line in told.lines().map(str::trim_start) {
        // Such as `EFI:  #regs:1  num_extents:1  id:0xffff88812739f950`, and the same with `EFD`.
        let (Some((kind, rest)), Some((_, id))) = (line.split_once(':'), line.split_once("id:")) else {
            continue;
        };
        if !rest.trim_start().starts_with("#regs:") || kind.len() != 3 {
            continue;
        }
        let intent = (format!("{}I", &kind[..2]), id.trim().to_owned());
        if kind.ends_with('I') {
            pending.insert(intent);
        } else {
            pending.remove(&intent);
        }
    }
    pending.into_iter().map(|(kind, _)| kind).collect()
}

/// A disk of a filesystem that was cut off, and what must not be lost.
pub struct Cut {
    pub place: Place,
    pub disk: PathBuf,
    pub synced: Vec<SyncedFile>,
    /// Whether `xfs_repair` may find something after recovery, whatever the map.
    pub has_findings: bool,
}

impl Cut {
    #[track_caller]
    pub fn of(crash: &Crash, name: &str) -> Self {
        let size = crash.layout.size;
        let place = Place::new(name, size);
        let disk = place.dir.join("disk.raw");
        let ground = crash
            .moment
            .shares_blocks()
            .then(|| Ground::new(place.dir.path(), size));
        let at = ground
            .as_ref()
            .map_or_else(|| disk.clone(), |ground| ground.mount.join("disk.raw"));
        fs::write(&at, Marker::A.times(size)).unwrap();
        Xfs::new(crash.layout.options).make(&at);
        let (synced, copy) = played(crash, &at, place.dir.path());
        if let Some(ground) = ground {
            fs::copy(at.with_extension("snapshot"), &disk).unwrap();
            ground.goes();
        }
        let bytes = copy.unwrap_or_else(|| fs::read(&disk).unwrap());
        // Without holes, which would be free whatever the map says.
        fs::write(&disk, bytes).unwrap();
        Self {
            place,
            disk,
            synced,
            has_findings: crash.story.leaves_findings(),
        }
    }
}

/// A filesystem whose files can be copied at once, even while a loop device writes to them.
struct Ground {
    mount: Mount,
    device: Loop,
    file: PathBuf,
}

impl Ground {
    /// In memory as all in `place`, with room for a disk and its copy.
    fn new(place: &Path, size: u64) -> Self {
        let file = place.join("ground.raw");
        File::create(&file).unwrap().set_len(2 * size + 64 * MIB).unwrap();
        Xfs::new("-m reflink=1").make(&file);
        let device = Loop::over(&file);
        let mount = Mount::new("rw", device.path(), place.join("ground"));
        Self { mount, device, file }
    }

    fn goes(self) {
        let Self { mount, device, file } = self;
        drop(mount);
        drop(device);
        until_let_go(&file);
        fs::remove_file(file).unwrap();
    }
}

/// Plays a story on a disk until its moment comes.
#[track_caller]
fn played(crash: &Crash, disk: &Path, scratch: &Path) -> (Vec<SyncedFile>, Option<Vec<u8>>) {
    let device = Loop::over(disk);
    let mount = Mount::new("rw", device.path(), scratch.join("cut"));
    let root = mount.point();
    let mut dice = Dice::new(crash.seed);
    crash.story.begins(root, disk, &mut dice);
    let (synced, stop) = (Synced::default(), AtomicBool::new(false));
    let at = (root, crash.layout.options.contains("rmapbt=1"));
    let (must_be, copy) = thread::scope(|scope| {
        let stops = Stop(&stop);
        scope.spawn(|| synced.goes_on(root, crash.seed, &stop));
        for number in 0..crash.story.workers() {
            let (mut dice, stop) = (Dice::new(crash.seed << 8 | number), &stop);
            scope.spawn(move || crash.story.goes_on(at, number, &mut dice, stop));
        }
        until("100 files that are synced", || synced.len() >= SYNCED);
        sleep(Duration::from_millis(dice.below(60)));
        let came = crash.moment.comes(crash.story, &synced, root, disk);
        drop(stops);
        came
    });
    drop(mount);
    drop(device);
    until_let_go(disk);
    (must_be, copy)
}
