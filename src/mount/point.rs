//! Mounts a FUSE filesystem on a directory, as root by mount(2), as another user by fusermount3, and ends the mount.
//!
//! fuser can do this as well, but when a mount has ended it unmounts again what is by then on that directory, and its
//! errors are text.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::devices::Kernel;
use crate::error::{Action, Error, Result, Unmountable};

/// What the kernel calls the filesystem, behind `fuse.`.
const SUBTYPE: &str = "mkqcow2";

/// The program that mounts and unmounts for users other than root.
const HELPER: &str = "fusermount3";

/// Where the kernel asks.
const DEVICE: &str = "/dev/fuse";

/// A directory that something is mounted on.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// Absolute, without links.
    path: PathBuf,
    /// The number of the mount, if it can be known: something else may be mounted there later.
    id: Option<u64>,
}

/// How a mount was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// It is gone.
    Gone,
    /// Its directory is free, but some files are still open: it ends when they are closed.
    Detached,
}

impl Point {
    /// Makes sure that the directory can be mounted on: it is there, is empty, and is alive.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] with the reason why it cannot.
    /// - [`Error::Io`] if it cannot be opened.
    pub(super) fn at(directory: &Path) -> Result<Self> {
        let failed = |error: io::Error| match Errno::from_io_error(&error) {
            Some(Errno::NOTCONN) => Unmountable::Dead.into(),
            Some(Errno::NOTDIR) => Unmountable::NoDirectory.into(),
            _ => Error::target_io(Action::Open, error),
        };
        let path = fs::canonicalize(directory).map_err(failed)?;
        let mut entries = fs::read_dir(&path).map_err(failed)?;
        match entries.next() {
            None => Ok(Self { path, id: None }),
            Some(entry) => entry.map_err(failed).and(Err(Unmountable::NotEmpty.into())),
        }
    }

    /// Mounts on it a filesystem that is told to be made of `image`. Returns what the kernel asks by.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if this system has nothing to mount with.
    /// - [`Error::Io`] if it cannot be mounted.
    pub(super) fn mount(&mut self, image: &Path, is_writable: bool) -> Result<OwnedFd> {
        let device = match self.mount_as_root(image, is_writable) {
            Err(Errno::PERM | Errno::ACCESS) => self.mount_by_helper(image, is_writable)?,
            Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => return Err(Unmountable::NoFuse.into()),
            result => result.map_err(|error| Error::target_io(Action::Mount, error))?,
        };
        self.id = self.mounts().last().copied();
        Ok(device)
    }

    /// Source: Linux, `Documentation/filesystems/fuse.rst`, "Mount options".
    fn mount_as_root(&self, image: &Path, is_writable: bool) -> rustix::io::Result<OwnedFd> {
        let device = File::options().read(true).write(true).open(DEVICE);
        let device = device.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mode = fs::metadata(&self.path).map_or(0o040_000, |metadata| metadata.mode());
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let options = format!(
            "fd={},rootmode={mode:o},user_id={user},group_id={group},default_permissions",
            device.as_raw_fd()
        );
        // There is no NUL in it.
        let options = CString::new(options).unwrap_or_default();
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if !is_writable {
            flags |= MountFlags::RDONLY;
        }
        let kind = format!("fuse.{SUBTYPE}");
        rustix::mount::mount(image, &self.path, kind, flags, &*options)?;
        Ok(device.into())
    }

    /// The helper sends the device by a socket whose number is in its environment. Source: libfuse,
    /// `util/fusermount.c`.
    fn mount_by_helper(&self, image: &Path, is_writable: bool) -> Result<OwnedFd> {
        let failed = |error: io::Error| Error::target_io(Action::Mount, error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut options: OsString = if is_writable { "rw" } else { "ro" }.into();
        options.push(format!(
            ",nosuid,nodev,noexec,default_permissions,subtype={SUBTYPE},fsname="
        ));
        options.push(escaped(image));
        let helper = Command::new(HELPER)
            .arg("-o")
            .arg(options)
            .arg("--")
            .arg(&self.path)
            .env("_FUSE_COMMFD", "0")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        let output = match helper {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Unmountable::NoHelper.into()),
            helper => helper.map_err(failed)?,
        };
        if !output.status.success() {
            return Err(failed(io::Error::other(complaint(&output.stderr))));
        }
        received(&ours).map_err(failed)
    }

    /// The numbers of what is mounted on the directory, the uppermost last; none if that cannot be known.
    fn mounts(&self) -> Vec<u64> {
        let mounts = Kernel::running().mounts().unwrap_or_default();
        let here = mounts.into_iter().filter(|mount| mount.point == self.path);
        here.map(|mount| mount.id).collect()
    }

    /// Ends the mount, unless it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if that is not possible.
    pub(super) fn unmount(&self) -> Result<Unmounted> {
        if let Some(id) = self.id {
            let mounts = self.mounts();
            if !mounts.contains(&id) {
                return Ok(Unmounted::Gone);
            }
            if mounts.last() != Some(&id) {
                return Err(Error::target_io(Action::Unmount, Errno::BUSY));
            }
        }
        let unmount = |flags| rustix::mount::unmount(&self.path, flags);
        match unmount(UnmountFlags::empty()) {
            Ok(()) => Ok(Unmounted::Gone),
            Err(Errno::BUSY) => {
                let detached = unmount(UnmountFlags::DETACH);
                detached.map_err(|error| Error::target_io(Action::Unmount, error))?;
                Ok(Unmounted::Detached)
            }
            Err(Errno::PERM) => self.unmount_by_helper(),
            Err(error) => Err(Error::target_io(Action::Unmount, error)),
        }
    }

    fn unmount_by_helper(&self) -> Result<Unmounted> {
        let failed = |error: io::Error| Error::target_io(Action::Unmount, error);
        let run = |options: &[&str]| {
            let mut helper = Command::new(HELPER);
            helper.args(options).arg("--").arg(&self.path);
            helper.stdin(Stdio::null()).output().map_err(failed)
        };
        if run(&["-u"])?.status.success() {
            return Ok(Unmounted::Gone);
        }
        let output = run(&["-u", "-z"])?;
        if output.status.success() {
            Ok(Unmounted::Detached)
        } else {
            Err(failed(io::Error::other(complaint(&output.stderr))))
        }
    }
}

/// A path as the value of an option: a comma would end it.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    OsString::from_vec(bytes)
}

/// What the helper says is wrong, on one line.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match *lines {
        [] => format!("{HELPER} failed"),
        [..] => lines.join("; "),
    }
}

/// The file that comes by a socket.
fn received(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let files = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    files.ok_or_else(|| io::Error::other(format!("{HELPER} sent no device")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_end_an_option() {
        assert_eq!(escaped(Path::new("/a,suid\\b")), "/a\\,suid\\\\b");
    }

    #[test]
    fn what_the_helper_says_is_one_line() {
        assert_eq!(complaint(b""), "fusermount3 failed");
        assert_eq!(complaint(b"fusermount3: no\n\nmore\n"), "fusermount3: no; more");
    }
}
