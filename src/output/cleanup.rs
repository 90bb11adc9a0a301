//! What must not be left behind when the program dies.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::devices::own_path;

/// Remembers the temporary name that an image has, if it has one at the moment, so that a program which is
/// told to die can remove it first. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub struct Cleanup {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    temporary: Option<(File, OsString)>,
    left: Left,
    reached: u64,
    remains: Option<Remains>,
}

/// What a program that dies, or a call that fails, leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// The target is as it was before, or as absent.
    #[default]
    Old,
    /// The target, a device or a stream, may hold some of the new and some of the old: it is incomplete.
    Part,
    /// The new one was complete already.
    New,
}

/// A file with a temporary name that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is left over, because it could not be removed: {}", text(*.error))]
pub struct Remains {
    path: PathBuf,
    error: Errno,
}

impl Remains {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What the system says, without the number.
fn text(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    let (text, _) = text.split_once(" (os error").unwrap_or((&text, ""));
    text.to_owned()
}

impl Cleanup {
    /// Removes what has a temporary name. From then on no image gets a name, for whoever tries waits for ever:
    /// only call this in order to end the process. Tells, too, what could not be removed.
    pub fn abandon(&self) -> (Left, Option<Remains>) {
        let mut state = self.lock();
        state.remove();
        let left = (state.left, state.remains.clone());
        std::mem::forget(state);
        left
    }

    /// What a call that failed has left behind.
    pub fn left(&self) -> Left {
        self.lock().left
    }

    /// How many bytes of a disk were dealt with: behind them, a target that is incomplete is as it was.
    pub fn progress(&self) -> u64 {
        self.lock().reached
    }

    /// What else is left behind, because it could not be removed.
    pub fn remains(&self) -> Option<Remains> {
        self.lock().remains.clone()
    }

    /// A disk was dealt with up to that byte.
    pub(crate) fn reached(&self, end: u64) {
        self.lock().reached = end;
    }

    /// From now on the target itself is written to.
    pub(super) fn begin_in_place(&self) {
        self.lock().left = Left::Part;
    }

    /// Not a byte of it has been.
    pub(super) fn nothing_written(&self) {
        self.lock().left = Left::Old;
    }

    /// Creates a file by that name, and remembers it if that succeeds.
    pub(super) fn create<T>(
        &self,
        directory: &File,
        name: &OsStr,
        create: impl FnOnce() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let mut state = self.lock();
        let directory = duplicate(directory)?;
        let created = create()?;
        state.temporary = Some((directory, name.into()));
        Ok(created)
    }

    /// Gives the image its name, and forgets the temporary one if that succeeds.
    pub(super) fn publish<E>(&self, publish: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut state = self.lock();
        publish()?;
        state.left = Left::New;
        state.temporary = None;
        Ok(())
    }

    /// Gives the image its name besides the temporary one, and removes that if it succeeds.
    pub(super) fn publish_link<E>(&self, publish: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut state = self.lock();
        publish()?;
        state.left = Left::New;
        state.remove();
        Ok(())
    }

    /// Gives what was created a name that stays, although it is not that of the target, and forgets it.
    pub(super) fn keep<T>(&self, rename: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
        let mut state = self.lock();
        let result = rename();
        state.temporary = None;
        result
    }

    /// Removes what was created and not published.
    pub(super) fn remove(&self) {
        self.lock().remove();
    }

    /// Removes something else that has a temporary name.
    pub(super) fn discard(&self, directory: &File, name: &OsStr) -> rustix::io::Result<()> {
        self.lock().unlink(directory, name)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single assignment: the state is right even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory itself, which may have another name by the time a file in it is removed.
fn duplicate(directory: &File) -> rustix::io::Result<File> {
    rustix::io::fcntl_dupfd_cloexec(directory, 0).map(|directory: OwnedFd| directory.into())
}

impl State {
    fn remove(&mut self) {
        if let Some((directory, name)) = self.temporary.take() {
            // What stays is told by whoever asks; the next run into the same image tries again.
            let _ = self.unlink(&directory, &name);
        }
    }

    /// Removes a file, and remembers it if that fails.
    fn unlink(&mut self, directory: &File, name: &OsStr) -> rustix::io::Result<()> {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => {
                let path = own_path(directory).read_link().unwrap_or_default().join(name);
                self.remains = Some(Remains { path, error });
                Err(error)
            }
        }
    }
}
