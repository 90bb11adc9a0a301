//! Answers the kernel's requests about a directory with files that are there from the beginning to the end.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::content::Content;
use super::names::totals;
use crate::error::Error;
use crate::units::{Exact, to_u64, to_usize};

/// How long the kernel may remember names and attributes: they never change.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// How much the kernel asks for at once, in bytes at most.
const LARGEST: u32 = 1 << 20;

/// How many requests the kernel has under way before anybody waits for them, such as those to read ahead.
const IN_FLIGHT: u16 = 64;

/// How many errors are told: a damaged file that is read again and again has one story.
const TOLD: usize = 100;

/// The unit of the sizes that statfs(2) tells.
const BLOCK: u32 = 4 << 10;

/// Who takes the errors of reads and writes, of which the reader sees only that there was one.
pub type Listener = Arc<dyn Fn(&Error) + Send + Sync>;

/// A directory of files.
pub(super) struct Server {
    pub(super) content: Content,
    /// Whose the files are: user and group.
    pub(super) owner: (u32, u32),
    /// When the image was last written to.
    pub(super) modified: SystemTime,
    pub(super) listener: Listener,
    /// How many errors were told.
    pub(super) told: AtomicUsize,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// The attributes of the directory, or of a file.
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let is_directory = inode == INodeNo::ROOT;
        let (size, perm) = match (is_directory, self.content.is_writable()) {
            (true, _) => (0, 0o500),
            (false, is_writable) => {
                let file = self.content.files().get(number(inode)?)?;
                (file.size(), if is_writable { 0o600 } else { 0o400 })
            }
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: self.modified,
            mtime: self.modified,
            ctime: self.modified,
            crtime: self.modified,
            kind: if is_directory {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm,
            nlink: if is_directory { 2 } else { 1 },
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        })
    }

    /// Tells of an error, and what the kernel is told of it: never bytes that may be wrong.
    fn failed(&self, error: &Error) -> Errno {
        if self.told.fetch_add(1, Ordering::Relaxed) < TOLD {
            (self.listener)(error);
        }
        match error {
            // There is no room for what is written.
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Errno::ENOSPC,
            Error::Io { source, .. } if source.kind() == io::ErrorKind::QuotaExceeded => Errno::EDQUOT,
            Error::Io { .. }
            | Error::Corrupt(_)
            | Error::Unsupported(_)
            | Error::Invalid(_)
            | Error::ReadBack(_)
            | Error::Elsewhere { .. } => Errno::EIO,
        }
    }
}

/// The number of a file.
fn number(inode: INodeNo) -> Option<usize> {
    inode.0.checked_sub(INodeNo::ROOT.0.plus(1)).map(to_usize)
}

/// The inode of the file of that number.
fn inode(number: usize) -> INodeNo {
    INodeNo(to_u64(number).plus(INodeNo::ROOT.0).plus(1))
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What is too large is cut down to what the kernel has.
        let _ = config.set_max_write(LARGEST);
        if let Err(most) = config.set_max_readahead(LARGEST) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(IN_FLIGHT);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut files = self.content.files().iter();
        let found = files
            .position(|file| *file.name == *name)
            .filter(|_| parent == INodeNo::ROOT);
        match found.and_then(|number| self.attributes(inode(number))) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Times may be set, without effect; size, owner and mode stay as they are.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode) {
            None => reply.error(Errno::ENOENT),
            Some(_) if mode.is_some() || uid.is_some() || gid.is_some() => reply.error(Errno::EPERM),
            Some(attributes) if size.is_some_and(|size| size != attributes.size) => reply.error(Errno::EPERM),
            Some(attributes) => reply.attr(&FOREVER, &attributes),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nobody but the kernel changes what it has in its cache.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(number) = number(inode) else {
            return reply.error(Errno::EISDIR);
        };
        match self.content.read(number, offset, size.into()) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(self.failed(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(number) = number(inode).filter(|_| self.content.is_writable()) else {
            return reply.error(Errno::EROFS);
        };
        match self.content.write(number, offset, data) {
            // As behind the end of a device.
            Ok(0) if !data.is_empty() => reply.error(Errno::ENOSPC),
            // The kernel sends no more than fits.
            Ok(written) => reply.written(u32::try_from(written).unwrap_or(u32::MAX)),
            Err(error) => reply.error(self.failed(&error)),
        }
    }

    /// What is written is forgotten at the end: there is nothing to sync.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let files = self.content.files().iter().enumerate();
        let files = files.map(|(number, file)| (inode(number), FileType::RegularFile, &*file.name));
        let dots = [".", ".."].map(|name| (INodeNo::ROOT, FileType::Directory, name));
        let entries = (1..).zip(dots.into_iter().chain(files));
        for (next, (inode, kind, name)) in entries.skip(to_usize(offset)) {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (files, bytes) = totals(self.content.files());
        let blocks = bytes.div_ceil(u64::from(BLOCK));
        reply.statfs(blocks, 0, 0, files, 0, BLOCK, 255, BLOCK);
    }
}
