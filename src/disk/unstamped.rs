//! Filesystems in memory, which do not keep the time when a mapped page is written to: who might have done so.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::Change;
use crate::devices::{FileId, Kernel, Subject};

/// What statfs(2) calls tmpfs and ramfs. Source: statfs(2).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A file in memory that is watched.
#[derive(Debug)]
pub(super) struct Unstamped {
    file: FileId,
    /// Tells when it is closed by a program that could write to it, its mappings included; none if that cannot be had.
    closed: Option<OwnedFd>,
    /// The kernel tells once.
    was_closed: OnceLock<()>,
}

impl Unstamped {
    /// The file at `path`, if it is in memory.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let kind = rustix::fs::statfs(path).ok()?.f_type;
        if !u64::try_from(kind).is_ok_and(|kind| IN_MEMORY.contains(&kind)) {
            return None;
        }
        let Some(Subject::File(file)) = Subject::of(&path.metadata().ok()?) else {
            return None;
        };
        Some(Self {
            file,
            closed: watch(path).ok(),
            was_closed: OnceLock::new(),
        })
    }

    /// That it may have been written to since it is watched, and by whom.
    pub(super) fn change(&self, kernel: &Kernel) -> Option<Change> {
        match kernel.process_that_maps(self.file) {
            Ok(Some((process, name))) => return Some(Change::Mapped { process, name }),
            Ok(None) => {}
            Err(_) => return Some(Change::Untold),
        }
        let Some(closed) = &self.closed else {
            return Some(Change::Untold);
        };
        let mut events = [0; 4096];
        match rustix::io::read(closed, &mut events) {
            Ok(_) => {
                self.was_closed.get_or_init(|| ());
            }
            Err(Errno::AGAIN) => {}
            Err(_) => return Some(Change::Untold),
        }
        self.was_closed.get().map(|()| Change::Closed)
    }
}

fn watch(path: &Path) -> Result<OwnedFd, Errno> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, path, WatchFlags::CLOSE_WRITE)?;
    Ok(events)
}
