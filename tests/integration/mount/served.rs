//! A mount that a test has, which ends with it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal};

use crate::support::loops::until;
use crate::support::{Dir, Run, root};

/// A directory on which mkqcow2 has mounted an image.
#[derive(Debug)]
pub struct Served {
    point: PathBuf,
    image: PathBuf,
}

impl Served {
    /// Mounts an image of the directory on `point` in it, with options.
    #[track_caller]
    pub fn new(dir: &Dir, options: &str, image: &str) -> Self {
        root::needed();
        let served = Self::expected(dir, image);
        served.mount(dir, options).exits(0).in_silence();
        served
    }

    /// What is to be mounted, or is mounted otherwise.
    pub fn expected(dir: &Dir, image: &str) -> Self {
        let point = dir.join("point");
        fs::create_dir_all(&point).unwrap();
        Self {
            point,
            image: dir.join(image),
        }
    }

    /// Mounts it.
    pub fn mount(&self, dir: &Dir, options: &str) -> Run {
        let line = format!(
            "mount {options} {} {}",
            self.image.display(),
            self.point.display()
        );
        dir.run(&line)
    }

    pub fn point(&self) -> &Path {
        &self.point
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    /// Whether something is mounted there.
    pub fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.contains(&format!(" {} ", self.point.display()))
    }

    /// The process that answers the kernel, if there is one.
    pub fn server(&self) -> Option<Pid> {
        let image = self.image.to_str().unwrap();
        let is_it = |process: &Path| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.split('\0').any(|word| word == "--foreground") && line.split('\0').any(|word| word == image)
        };
        let mut processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let process = processes.find(|process| is_it(process))?;
        let number = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
        Pid::from_raw(number)
    }

    pub fn send(&self, signal: Signal) {
        rustix::process::kill_process(self.server().unwrap(), signal).unwrap();
    }

    /// Unmounts it, and waits for its process to end.
    #[track_caller]
    pub fn unmount(&self) {
        unmount(&self.point);
        until("a server that ends", || self.server().is_none());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Of mounts that hang in it as well.
        let _ = rustix::mount::unmount(&self.point, rustix::mount::UnmountFlags::DETACH);
        if let Some(server) = self.server() {
            let _ = rustix::process::kill_process(server, Signal::KILL);
        }
    }
}

/// Unmounts a directory. For a moment, a program that another test starts has every file open that a test has.
#[track_caller]
pub fn unmount(point: &Path) {
    until("a directory that is unmounted", || {
        let unmounted = Command::new("umount").arg(point).output().unwrap();
        unmounted.status.success()
    });
}

/// So many bytes of a file from an offset on.
pub fn bytes(file: &Path, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(file)?.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}
