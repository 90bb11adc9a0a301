//! What the kernel is asked.

use std::io;
use std::path::PathBuf;

use super::locks::parse_locks;
use super::mounts::{Mount, parse_mounts, parse_swaps};
use super::{FileId, kernel_files};

/// The kernel, as its two filesystems show it.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(super) proc: PathBuf,
    pub(super) sys: PathBuf,
}

impl Kernel {
    /// The kernel that runs this program.
    pub fn running() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }

    /// What is mounted in this process's namespace.
    ///
    /// # Errors
    ///
    /// If `/proc/self/mountinfo` cannot be read, or is not as proc(5) says.
    pub fn mounts(&self) -> io::Result<Vec<Mount>> {
        let path = self.proc.join("self/mountinfo");
        // Mount points are bytes, not text.
        let text = kernel_files::read_expected(&path)?;
        parse_mounts(&text).ok_or_else(|| kernel_files::malformed(&path))
    }

    /// The files and devices that are swapped to.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn swaps(&self) -> io::Result<Vec<PathBuf>> {
        Ok(parse_swaps(&self.read_optional("swaps")?))
    }

    /// The files, device nodes included, that a virtual machine may write to.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn guests(&self) -> io::Result<Vec<FileId>> {
        let text = self.read_optional("locks")?;
        Ok(parse_locks(&String::from_utf8_lossy(&text)))
    }

    /// A file of `/proc` that kernels have if they are built so: no content if it is not there, but all others are.
    fn read_optional(&self, name: &str) -> io::Result<Vec<u8>> {
        let text = kernel_files::read(&self.proc.join(name))?;
        if text.is_none() {
            // Of a `/proc` with processes only (`subset=pid`), or of none at all, nothing can be told.
            kernel_files::expect(&self.proc.join("version"))?;
        }
        Ok(text.unwrap_or_default())
    }
}
