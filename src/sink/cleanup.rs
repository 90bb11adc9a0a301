//! What must not be left behind when the program dies.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;

/// Remembers the temporary name that an image has, if it has one at the moment, so that a program which is
/// told to die can remove it first. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub struct Cleanup {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    temporary: Option<(OwnedFd, OsString)>,
    left: Left,
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

impl Cleanup {
    /// Removes what has a temporary name. From then on no image gets a name, for whoever tries waits for ever:
    /// only call this in order to end the process.
    pub fn abandon(&self) -> Left {
        let mut state = self.lock();
        state.remove();
        let left = state.left;
        std::mem::forget(state);
        left
    }

    /// What a call that failed has left behind.
    pub fn left(&self) -> Left {
        self.lock().left
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
        // The directory itself, which may have another name by the time the file is removed.
        let directory = rustix::io::fcntl_dupfd_cloexec(directory, 0)?;
        let created = create()?;
        state.temporary = Some((directory, name.into()));
        Ok(created)
    }

    /// Gives the image its name, and forgets the temporary one if that succeeds.
    pub(super) fn publish<E>(&self, publish: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut state = self.lock();
        publish()?;
        *state = State {
            temporary: None,
            left: Left::New,
        };
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single assignment: the state is right even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self) {
        if let Some((directory, name)) = self.temporary.take() {
            // Nothing more can be done about it; the next run into the same image tries again.
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}
