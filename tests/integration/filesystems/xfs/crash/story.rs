//! What is done to a filesystem until it is cut off: each story has the kernel log other items.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, XattrFlags};
use rustix::io::Errno;

use crate::filesystems::proof::xfs::log_cycle;
use crate::support::{Dice, noise, tool};

/// In bytes: a multiple of the size of blocks.
const PIECE: u64 = 4 << 10;

/// Ends what other threads do, whether a test goes on or fails.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file that is on stable storage: its content is that of a seed.
#[derive(Clone, Debug)]
pub struct SyncedFile {
    pub name: PathBuf,
    pub seed: u64,
    pub length: usize,
}

/// The files that are on stable storage by now.
#[derive(Debug, Default)]
pub struct Synced(Mutex<Vec<SyncedFile>>);

impl Synced {
    /// Makes one file after the other, and has each on stable storage.
    pub fn goes_on(&self, root: &Path, seed: u64, stop: &AtomicBool) {
        let mut dice = Dice::new(!seed);
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let directory = PathBuf::from(format!("synced-{}", dice.below(4)));
            let name = directory.join(number.to_string());
            // Not too many: a filesystem may be nearly full.
            let length = dice.below(if number < 200 { 20_000 } else { 100 }) as usize;
            let seed = dice.roll();
            let is_synced = fs::create_dir_all(root.join(directory))
                .and_then(|()| fs::write(root.join(&name), noise(seed, length)))
                .and_then(|()| File::open(root.join(&name))?.sync_all());
            if is_synced.is_ok() {
                let file = SyncedFile { name, seed, length };
                self.0.lock().unwrap().push(file);
            }
        }
    }

    pub fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    /// Those of which it is known now.
    pub fn until_now(&self) -> Vec<SyncedFile> {
        self.0.lock().unwrap().clone()
    }
}

/// What is done to a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Small files are made, written again, renamed and removed.
    Rewritten,
    /// The log is written over several times, and has more of the same.
    Wrapped,
    /// Files in many pieces are cut short: extents are freed in steps.
    Truncated,
    /// Files share blocks with others, and get their own.
    Shared,
    /// Ranges of a file in many pieces are taken out and put in.
    Collapsed,
    /// Two files in many pieces change places.
    Swapped,
    /// Files have attributes of all sizes.
    Attributes,
    /// Files in many pieces are removed, some while they are open.
    Removed,
    /// Lists of extents become trees, and lists again.
    Spread,
    /// Directories grow, shrink and go.
    Directories,
    /// Blocks that were freed are the next to be used: there are hardly any others.
    Full,
    /// Several of these at once.
    Mixed,
    /// It has just been made larger, and a little smaller again.
    Resized,
}

impl Story {
    /// All that happen to a filesystem whose size stays.
    pub const ALL: [Self; 12] = [
        Self::Rewritten,
        Self::Wrapped,
        Self::Truncated,
        Self::Shared,
        Self::Collapsed,
        Self::Swapped,
        Self::Attributes,
        Self::Removed,
        Self::Spread,
        Self::Directories,
        Self::Full,
        Self::Mixed,
    ];

    /// How many threads do it.
    pub fn workers(self) -> u64 {
        if self == Self::Mixed { 3 } else { 1 }
    }

    /// Whether the kernel does it in steps, each a transaction, and logs first which are to come.
    pub fn takes_steps(self) -> bool {
        !matches!(self, Self::Rewritten | Self::Full | Self::Resized)
    }

    /// Whether the kernel leaves something that `xfs_repair` finds after recovery: attributes that were set or removed in
    /// steps stay half done.
    pub fn leaves_findings(self) -> bool {
        matches!(self, Self::Attributes | Self::Wrapped)
    }

    /// What comes before: free space in many pieces, and that without which the story is none.
    #[track_caller]
    pub fn begins(self, root: &Path, disk: &Path, dice: &mut Dice) {
        let old = root.join("old");
        fs::create_dir(&old).unwrap();
        for number in 0..120_u64 {
            let length = dice.below(40_000) as usize;
            fs::write(old.join(number.to_string()), noise(number, length)).unwrap();
        }
        rustix::fs::syncfs(File::open(root).unwrap()).unwrap();
        for number in (0..120).step_by(2) {
            fs::remove_file(old.join(number.to_string())).unwrap();
        }
        if self == Self::Swapped {
            swap(root, 8).unwrap();
        }
        if self == Self::Resized {
            let grow = |size: &str| {
                tool(
                    "xfs_growfs",
                    [&["-D"], &[size][..], &[root.to_str().unwrap()]].concat(),
                )
            };
            grow("16000");
            grow("15900");
        }
        let mut turns = 0;
        while self == Self::Wrapped && log_cycle(disk) < 3 {
            wrap(root, turns).unwrap();
            turns += 1;
            assert!(turns < 20_000, "a log that is never full");
        }
    }

    /// Does it over and over, in a directory of the worker, until it is to stop or the filesystem is gone.
    /// `has_owners`: there are trees of owners of blocks.
    pub fn goes_on(self, at: (&Path, bool), worker: u64, dice: &mut Dice, stop: &AtomicBool) {
        let (root, has_owners) = at;
        let story = match (self, worker) {
            (Self::Mixed, 0) => Self::Shared,
            (Self::Mixed, 1) => Self::Truncated,
            (Self::Mixed, _) => Self::Rewritten,
            (story, _) => story,
        };
        let directory = root.join(format!("worker-{worker}"));
        for turn in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let done = fs::create_dir_all(&directory)
                .and_then(|()| story.turns((&directory, has_owners), turn, dice));
            match done.map_err(|error| Errno::from_io_error(&error)) {
                Ok(()) => {}
                // It is shut down, and tells of a directory no more than that it is there.
                Err(Some(Errno::IO | Errno::EXIST)) => return,
                // It does not swap all that it might.
                Err(Some(Errno::INVAL)) if story == Self::Swapped => {}
                Err(Some(Errno::NOSPC)) => drop(fs::remove_dir_all(&directory)),
                Err(error) => panic!("{story:?}: {error:?}"),
            }
        }
    }

    /// Does it once.
    fn turns(self, (at, has_owners): (&Path, bool), turn: u64, dice: &mut Dice) -> io::Result<()> {
        match self {
            Self::Rewritten | Self::Mixed | Self::Resized => rewrite(at, turn, dice),
            Self::Wrapped => wrap(at, turn),
            Self::Truncated => truncate(at, dice),
            Self::Shared => share(at, turn, dice),
            Self::Collapsed => collapse(at, dice),
            // Linux 6.18 cannot mount what was cut off after it swapped trees of extents without trees of owners:
            // "Metadata corruption detected at xfs_dinode_verify".
            Self::Swapped => swap(at, if has_owners { 150 } else { 8 }),
            Self::Attributes => attributes(at, turn, dice),
            Self::Removed => remove(at, dice),
            Self::Spread => spread(at, turn, dice),
            Self::Directories => directories(at, turn, dice),
            Self::Full => full(at, turn, dice),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

const HOLE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// A file of so many pieces with holes between them.
fn in_pieces(path: &Path, count: u64) -> io::Result<File> {
    let file = open(path)?;
    file.write_all_at(&noise(count, (count * 2 * PIECE) as usize), 0)?;
    file.sync_data()?;
    for number in 0..count {
        rustix::fs::fallocate(&file, HOLE, (2 * number + 1) * PIECE, PIECE)?;
    }
    Ok(file)
}

fn rewrite(at: &Path, turn: u64, dice: &mut Dice) -> io::Result<()> {
    let path = at.join(dice.below(60).to_string());
    match dice.below(4) {
        0 => drop(fs::remove_file(path)),
        1 => drop(fs::rename(path, at.join(dice.below(60).to_string()))),
        _ => fs::write(path, noise(turn, dice.below(30_000) as usize))?,
    }
    Ok(())
}

/// Attributes in inodes and blocks of their own, all of which is logged.
fn wrap(at: &Path, turn: u64) -> io::Result<()> {
    for number in 0..16 {
        let path = at.join(format!("wrapping-{number}"));
        let file = open(&path)?;
        for name in ["user.one", "user.two"] {
            let value: Vec<_> = noise(turn << 8 | number, 700);
            rustix::fs::fsetxattr(&file, name, &value, XattrFlags::empty())?;
        }
        if turn % 4 == number % 4 {
            fs::remove_file(&path)?;
        }
    }
    let file = open(&at.join("wrapped"))?;
    file.write_all_at(&turn.to_le_bytes(), 0)?;
    file.sync_all()
}

fn truncate(at: &Path, dice: &mut Dice) -> io::Result<()> {
    let file = in_pieces(&at.join(dice.below(3).to_string()), 300)?;
    file.set_len(dice.below(80) * PIECE)?;
    if dice.below(2) == 0 {
        file.set_len(0)?;
    }
    Ok(())
}

fn share(at: &Path, turn: u64, dice: &mut Dice) -> io::Result<()> {
    let original = in_pieces(&at.join("original"), 200)?;
    let path = at.join(format!("copy-{}", turn % 4));
    drop(fs::remove_file(&path));
    let copy = open(&path)?;
    match rustix::fs::ioctl_ficlone(&copy, &original) {
        // Without that feature they are copied.
        Err(Errno::OPNOTSUPP) => drop(fs::copy(at.join("original"), &path)?),
        other => other?,
    }
    for _ in 0..20 {
        copy.write_all_at(&noise(turn, 4096), dice.below(400) * PIECE)?;
    }
    copy.sync_data()?;
    original.set_len((60 + dice.below(300)) * PIECE)
}

fn collapse(at: &Path, dice: &mut Dice) -> io::Result<()> {
    let path = at.join("pieces");
    let is_there = path.metadata().is_ok_and(|metadata| metadata.len() > 100 * PIECE);
    let file = if is_there {
        open(&path)?
    } else {
        in_pieces(&path, 100)?
    };
    for mode in [
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
        HOLE,
        FallocateFlags::ZERO_RANGE,
    ] {
        let place = dice.below(80) * PIECE;
        rustix::fs::fallocate(&file, mode, place, (1 + dice.below(3)) * PIECE)?;
    }
    Ok(())
}

fn swap(at: &Path, pieces: u64) -> io::Result<()> {
    let (one, other) = (at.join("one"), at.join("other"));
    in_pieces(&one, pieces)?;
    in_pieces(&other, pieces)?;
    for _ in 0..3 {
        let mut command = Command::new("xfs_io");
        command
            .arg("-c")
            .arg(format!("swapext {}", other.display()))
            .arg(&one);
        let output = command.stdin(Stdio::null()).output()?;
        // It tells of errors, and not in its status.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for (words, error) in [
            ("Input/output error", Errno::IO),
            ("Invalid argument", Errno::INVAL),
        ] {
            if said.contains(words) {
                return Err(error.into());
            }
        }
        assert!(said.is_empty(), "swapext: {said}");
    }
    fs::remove_file(other)
}

fn attributes(at: &Path, turn: u64, dice: &mut Dice) -> io::Result<()> {
    let path = at.join(format!("attributes-{}", turn % 3));
    let file = open(&path)?;
    for number in 0..60 {
        let name = format!("user.attribute-{}", dice.below(80));
        let length = dice.below(if number % 20 == 0 { 60_000 } else { 1500 });
        match dice.below(3) {
            0 => drop(rustix::fs::fremovexattr(&file, &name)),
            _ => rustix::fs::fsetxattr(&file, &name, &noise(turn, length as usize), XattrFlags::empty())?,
        }
    }
    if dice.below(4) == 0 {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn remove(at: &Path, dice: &mut Dice) -> io::Result<()> {
    let names = ["a", "b", "c"].map(|name| at.join(name));
    let files = names.iter().map(|name| in_pieces(name, 150));
    let mut files = files.collect::<io::Result<Vec<_>>>()?;
    for name in &names {
        fs::remove_file(name)?;
        if dice.below(2) == 0 {
            files.pop();
        }
    }
    // Nothing leads to these any more but that they are open.
    for file in &files {
        file.write_all_at(&noise(1, 4096), PIECE)?;
    }
    Ok(())
}

fn spread(at: &Path, turn: u64, dice: &mut Dice) -> io::Result<()> {
    let path = at.join(format!("spread-{}", turn % 4));
    let file = open(&path)?;
    for number in 0..40 {
        file.write_all_at(&noise(turn, 4096), dice.below(600) * PIECE)?;
        if number % 10 == 9 {
            file.sync_data()?;
        }
    }
    for _ in 0..10 {
        rustix::fs::fallocate(&file, HOLE, dice.below(600) * PIECE, 4 * PIECE)?;
    }
    if dice.below(8) == 0 {
        file.set_len(PIECE)?;
    }
    Ok(())
}

fn directories(at: &Path, turn: u64, dice: &mut Dice) -> io::Result<()> {
    let directory = at.join(format!("directory-{}", turn % 4));
    fs::create_dir_all(&directory)?;
    for number in 0..150 {
        let name = format!("a name that takes some room in a directory, with the number {number}");
        fs::write(directory.join(name), "")?;
    }
    open(&at.join("synced"))?.sync_all()?;
    let entries = fs::read_dir(&directory)?.collect::<io::Result<Vec<_>>>()?;
    for entry in entries.iter().filter(|_| dice.below(4) > 0) {
        fs::remove_file(entry.path())?;
    }
    if dice.below(3) == 0 {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}

fn full(at: &Path, turn: u64, dice: &mut Dice) -> io::Result<()> {
    let space = rustix::fs::statvfs(at)?;
    // What is to be synced finds room.
    if space.f_bavail * space.f_frsize > 4 << 20 {
        let file = open(&at.join(turn.to_string()))?;
        file.write_all_at(&noise(turn, 64 << 10 << dice.below(4)), 0)?;
        return file.sync_data();
    }
    let entries = fs::read_dir(at)?.collect::<io::Result<Vec<_>>>()?;
    for entry in entries.iter().filter(|_| dice.below(4) == 0) {
        fs::remove_file(entry.path())?;
    }
    Ok(())
}
