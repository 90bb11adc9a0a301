//! A file or device that a disk is read from: opened once, and from then on asked by its handle, not by its name.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::SeekFrom;

use super::{Change, Pipe, State, Watch, settle};
use crate::devices::flush::{flush, flush_filesystems, sync_file};
use crate::devices::usage::Users;
use crate::devices::{FileId, Kernel, Subject, Unwritten};
use crate::error::{Action, Corrupt, Error, InUse, Invalid, Result};
use crate::units::{Exact, to_u64};

/// How much is read to tell what a file is, in bytes: the smallest cluster of any format, which holds its header.
const BEGINNING: usize = 512;

/// A file or device that has a name, and is opened as soon as something of it is needed.
#[derive(Debug)]
pub(crate) struct Found {
    path: PathBuf,
    subject: Subject,
    underlying: Option<Underlying>,
}

impl Found {
    /// What has that name.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if it is neither a regular file nor a block device.
    /// - [`Error::Io`] if nothing has it, or that cannot be found out.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        // Before it is opened: opening a FIFO would wait for a writer, opening a tape would wind it.
        let metadata = path
            .metadata()
            .map_err(|error| Error::source_io(Action::Open, error))?;
        let subject = Subject::of(&metadata).ok_or(Invalid::SourceKind(metadata.file_type().into()))?;
        Ok(Self {
            path: path.to_owned(),
            subject,
            underlying: None,
        })
    }

    /// The name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file or device it is.
    pub(crate) fn subject(&self) -> Subject {
        self.subject
    }

    /// How it begins: its first 512 bytes, or all of it.
    ///
    /// # Errors
    ///
    /// - Those of [`open`](Self::open).
    /// - [`Error::Io`] if it cannot be read.
    pub(crate) fn beginning(&mut self) -> Result<&[u8]> {
        let underlying = match self.underlying.take() {
            Some(underlying) => underlying,
            None => Underlying::open(&self.path, self.subject)?,
        };
        self.underlying.insert(underlying).beginning()
    }

    /// What comes through a pipe, of which all that is needed now is kept, by that name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file of what is kept cannot be examined.
    pub(crate) fn piped(path: &Path, pipe: &Arc<Pipe>) -> Result<Self> {
        let file = pipe.kept().map_err(examine)?;
        let metadata = file.metadata().map_err(examine)?;
        let kind = Invalid::SourceKind(metadata.file_type().into());
        let subject = Subject::of(&metadata).ok_or(kind)?;
        let mut underlying = Underlying::of(path, file, &metadata, subject)?;
        underlying.pipe = Some(Arc::clone(pipe));
        Ok(Self {
            path: path.to_owned(),
            subject,
            underlying: Some(underlying),
        })
    }

    /// Opens it for reading, if it is not open yet.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if the name is that of another one by now.
    /// - [`Error::Io`] if it cannot be opened or examined.
    pub(crate) fn open(self) -> Result<Underlying> {
        match self.underlying {
            Some(underlying) => Ok(underlying),
            None => Underlying::open(&self.path, self.subject),
        }
    }
}

/// A regular file or a block device that is open for reading.
#[derive(Debug)]
pub struct Underlying {
    path: PathBuf,
    file: File,
    subject: Subject,
    id: FileId,
    /// Its size is that of the disk.
    is_raw: bool,
    /// Its first bytes, once they were read.
    beginning: OnceLock<Vec<u8>>,
    /// Of writes since it was opened.
    watch: Watch,
    /// Of writes since every one of them was going to show.
    settled: OnceLock<Watch>,
    /// Who might write to it while it is read, once that was asked.
    writer: OnceLock<Option<InUse>>,
    /// What was written earlier, and is not on the disk, once it settled.
    unwritten: OnceLock<Option<Unwritten>>,
    /// What keeps others from mounting it meanwhile.
    held: Mutex<Vec<File>>,
    /// Where it comes from, if that is not the file: then the file holds what is kept of it.
    pipe: Option<Arc<Pipe>>,
}

/// What is known of a raw file or device before anything of it is read.
#[derive(Debug)]
pub(super) struct Guard {
    /// Who might write to it while it is read, if it was opened in spite of that.
    pub(super) writer: Option<InUse>,
    /// What keeps others from mounting it meanwhile.
    pub(super) held: Vec<File>,
    /// What was written earlier, and is not on the disk.
    pub(super) unwritten: Option<Unwritten>,
    /// Its state now.
    pub(super) before: State,
    /// Whether every write from then on shows.
    pub(super) is_settled: bool,
}

impl Underlying {
    fn open(path: &Path, subject: Subject) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::source_io(Action::Open, error))?;
        let metadata = file.metadata().map_err(examine)?;
        if Subject::of(&metadata) != Some(subject) {
            return Err(Invalid::SourceReplaced.into());
        }
        Self::of(path, file, &metadata, subject)
    }

    fn of(path: &Path, file: File, metadata: &Metadata, subject: Subject) -> Result<Self> {
        let before = State::of(&file, subject).map_err(examine)?;
        Ok(Self {
            path: path.to_owned(),
            id: FileId::of(metadata),
            file,
            subject,
            is_raw: false,
            beginning: OnceLock::new(),
            watch: Watch::loose(before),
            settled: OnceLock::new(),
            writer: OnceLock::new(),
            unwritten: OnceLock::new(),
            held: Mutex::default(),
            pipe: None,
        })
    }

    /// The same as a disk byte by byte, of which all is known.
    pub(super) fn raw(self, guard: Guard) -> Self {
        let settled = OnceLock::new();
        if guard.is_settled {
            settled.get_or_init(|| Watch::tight(guard.before, &self.file, self.subject));
        }
        Self {
            is_raw: true,
            watch: Watch::loose(guard.before),
            settled,
            writer: guard.writer.into(),
            unwritten: guard.unwritten.into(),
            held: Mutex::new(guard.held),
            ..self
        }
    }

    /// The name it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file or device it is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// What makes two names the same file.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Its length in bytes, as it was when it was opened.
    pub(crate) fn length(&self) -> Result<u64> {
        if let Some(pipe) = &self.pipe {
            return Ok(pipe.length());
        }
        match self.watch.before() {
            State::File(state) => Ok(state.size),
            State::Device { .. } => {
                let end = rustix::fs::seek(&self.file, SeekFrom::End(0));
                end.map_err(|error| examine(error.into()))
            }
        }
    }

    /// How it begins: its first 512 bytes, or all of it. Read once.
    pub(crate) fn beginning(&self) -> Result<&[u8]> {
        if let Some(bytes) = self.beginning.get() {
            return Ok(bytes);
        }
        let mut bytes = vec![0; BEGINNING];
        let read = self.read(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(self.beginning.get_or_init(|| bytes))
    }

    /// Reads as much as there is from `at` on, and returns how much that was.
    pub(crate) fn read(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        if let Some(pipe) = &self.pipe {
            return pipe.read(buf, at);
        }
        let mut done = 0_usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // So much was read from there on.
            let here = at.plus(to_u64(done));
            match self.file.read_at(rest, here) {
                Ok(0) => break,
                Ok(read) => done.increase(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::source_io(Action::Read(here), error)),
            }
        }
        Ok(done)
    }

    /// Finds out who might write to it. Asked once.
    pub(crate) fn find_writer(&self, kernel: &Kernel) -> Option<&InUse> {
        if self.pipe.is_some() {
            return None;
        }
        let writer = self.writer.get_or_init(|| kernel.users(self.subject).writer());
        writer.as_ref()
    }

    /// Who might write to it meanwhile, as far as that was asked.
    pub fn writer(&self) -> Option<&InUse> {
        self.writer.get()?.as_ref()
    }

    /// Whether others are kept from mounting it, or what shows its bytes, until it is closed.
    pub(crate) fn is_claimed(&self) -> bool {
        !self.held().is_empty()
    }

    /// Keeps nobody from mounting it any more.
    pub(crate) fn release(&self) {
        self.held().clear();
    }

    fn held(&self) -> MutexGuard<'_, Vec<File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that every write from now on shows as a change: what others wrote earlier is brought to the disk.
    /// Done once.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system cannot tell.
    pub(crate) fn settle(&self) -> Result<()> {
        // Nobody else writes to what is kept of a pipe.
        if self.settled.get().is_some() || self.pipe.is_some() {
            return Ok(());
        }
        let kernel = Kernel::running();
        let users = kernel.users(self.subject);
        let (before, mut unwritten) = (*self.watch.before(), None);
        let look = || State::of(&self.file, self.subject);
        let settled = settle(before, look, || {
            let flushed = flush_all(&kernel, &users, &self.path, &self.file);
            unwritten = unwritten.take().or(flushed.err());
        });
        let mut settled = settled.map_err(examine)?;
        // Something of it has been read already.
        if settled.file() != before.file() {
            settled = before;
        }
        self.settled
            .get_or_init(|| Watch::tight(settled, &self.file, self.subject));
        self.unwritten.get_or_init(|| unwritten);
        Ok(())
    }

    /// What others wrote to it earlier, and could not be brought to the disk: what is read there may be older.
    pub fn unwritten(&self) -> Option<&Unwritten> {
        self.unwritten.get()?.as_ref()
    }

    /// How it was seen to change since it was opened, or settled.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if it is the disk byte by byte, and smaller: what was behind the end may have been taken
    ///   for a hole.
    /// - [`Error::Io`] if the system cannot tell.
    pub fn change(&self) -> Result<Option<Change>> {
        if self.pipe.is_some() {
            return Ok(None);
        }
        let watch = self.settled.get().unwrap_or(&self.watch);
        match watch.change(&self.file, self.subject).map_err(examine)? {
            Some(Change::Size { before, after }) if self.is_raw && after < before => Err(Corrupt::Shrank {
                end: after,
                expected: before,
            }
            .into()),
            change => Ok(change),
        }
    }
}

/// Brings to the disk what others wrote, from the top to the bottom: to filesystems, to devices, to the file itself.
pub(super) fn flush_all(kernel: &Kernel, users: &Users, path: &Path, file: &File) -> Result<(), Unwritten> {
    let filesystems = flush_filesystems(users);
    let devices = flush(kernel, users, path);
    let own = sync_file(file).map_err(|error| Unwritten::new(path, error));
    filesystems.and(devices).and(own)
}

/// That the system does not tell of it.
pub(super) fn examine(error: io::Error) -> Error {
    Error::source_io(Action::Examine, error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_looked_at_is_what_is_opened_whatever_has_its_name_by_then() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("mkqcow2-found-{}", std::process::id()));
        fs::write(&path, "the first").unwrap();
        let mut found = Found::at(&path).unwrap();
        assert_eq!(found.beginning().unwrap(), b"the first");

        let other = path.with_extension("other");
        fs::write(&other, "and another").unwrap();
        fs::rename(&other, &path).unwrap();

        let underlying = found.open().unwrap();
        let mut bytes = [0; 20];
        assert_eq!(underlying.read(&mut bytes, 4).unwrap(), 5);
        assert_eq!(bytes.first_chunk(), Some(b"first"));
        assert_eq!(
            (underlying.length().unwrap(), underlying.change().unwrap()),
            (9, None)
        );
        // Not looked at, it is found to be another.
        let found = Found::at(&path).unwrap();
        fs::write(&other, "a third").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(found.open().is_err());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn how_it_begins_is_read_once() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("mkqcow2-beginning-{}", std::process::id()));
        fs::write(&path, [1; 1000]).unwrap();
        let underlying = Found::at(&path).unwrap().open().unwrap();
        assert_eq!(underlying.beginning().unwrap(), [1; BEGINNING]);
        fs::write(&path, [2; 1000]).unwrap();
        assert_eq!(underlying.beginning().unwrap(), [1; BEGINNING]);
        fs::remove_file(path).unwrap();
    }
}
