//! Shows the disk in an image, and its volumes, as files in a directory, through FUSE.
//!
//! ```text
//! kernel -> server -> content -> overlay -> clusters -> image
//!             |         |          |          those read in part last; each compared with its checksum
//!             |         |          what was written, in a temporary file, if that is allowed
//!             |         where the bytes of a volume lie on the disk
//!             fuser's threads
//! ```

#![warn(clippy::arithmetic_side_effects)]

mod clusters;
mod content;
mod names;
mod options;
mod overlay;
mod point;
mod server;
mod warning;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::SystemTime;

use fuser::{Config, Session, SessionACL};

pub use names::Shown;
pub use options::Options;
pub use point::Unmounted;
pub use server::Listener;
pub use warning::Warning;

use crate::disk::{Disk, Open};
use crate::error::{Action, Error, Result};
use crate::formats::{self, Chain, Opening, TakenFor};
use crate::units::length;
use crate::volumes::{self, Region, Scan};
use content::Content;
use overlay::Overlay;
use point::Point;
use server::Server;

/// How many threads answer the kernel at most, unless more are asked for.
const MAX_THREADS: usize = 8;

/// A disk that can be mounted.
#[derive(Debug)]
pub struct Mounting {
    image: PathBuf,
    threads: usize,
    content: Content,
    regions: Vec<Region>,
    point: Point,
    warnings: Vec<Warning>,
}

impl Mounting {
    /// Opens an image with the files it needs, makes sure that it can be mounted on an empty directory, and finds the
    /// volumes of the disk in it.
    ///
    /// # Errors
    ///
    /// - Those of [`formats::open`].
    /// - [`Error::Invalid`] if nothing can be mounted there, with the reason.
    /// - [`Error::Corrupt`] if the table of its checksums is damaged.
    /// - [`Error::Io`] if no file can be created that takes what is written.
    pub fn prepare(image: &Path, directory: &Path, options: &Options) -> Result<Self> {
        let mut disk = open(image, options)?;
        let point = Point::at(directory)?;
        let overlay = options.copy_on_write.then(Overlay::new).transpose()?;
        let mut warnings = warnings(&disk);
        if disk.hold_to_checksums()? {
            warnings.push(Warning::Changed);
        }
        let regions = match volumes::scan(&disk, Scan::Auto) {
            Ok(allocation) => {
                warnings.extend(allocation.flaws.into_iter().map(Warning::Table));
                allocation.regions
            }
            Err(error) => {
                warnings.push(Warning::NoVolumes(error));
                Vec::new()
            }
        };
        let files = names::files(disk.len(), &regions);
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            image: std::path::absolute(image).unwrap_or_else(|_| image.to_owned()),
            threads: options
                .threads
                .map_or(processors.min(MAX_THREADS), NonZeroUsize::get),
            content: Content::new(disk, files, overlay),
            regions,
            point,
            warnings,
        })
    }

    /// The files that will be shown.
    pub fn files(&self) -> &[Shown] {
        self.content.files()
    }

    /// All of the disk first, then its volumes: what is shown, and what cannot be. None if it could not be searched.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// What there is to know before they are read.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Mounts the files on the directory. `listener` takes the errors of reads and writes.
    ///
    /// # Errors
    ///
    /// - [`Error::Invalid`] if this system has nothing to mount with.
    /// - [`Error::Io`] if the system refuses to mount.
    pub fn mount(self, listener: Listener) -> Result<Mounted> {
        let mut point = self.point;
        let server = Server {
            owner: (
                rustix::process::getuid().as_raw(),
                rustix::process::getgid().as_raw(),
            ),
            modified: modified(self.content.disk()),
            content: self.content,
            listener,
            told: AtomicUsize::new(0),
        };
        let device = point.mount(&self.image, server.content.is_writable())?;
        let mut config = Config::default();
        config.n_threads = Some(self.threads);
        // The kernel asks for those only who may ask.
        config.acl = SessionACL::All;
        match Session::from_fd(server, device, SessionACL::All, config) {
            Ok(session) => Ok(Mounted { session, point }),
            Err(error) => {
                // What failed says more.
                let _ = point.unmount();
                Err(Error::target_io(Action::Mount, error))
            }
        }
    }
}

/// A disk that is mounted.
#[derive(Debug)]
pub struct Mounted {
    session: Session<Server>,
    point: Point,
}

impl Mounted {
    /// What ends the mount from another thread.
    pub fn unmounter(&self) -> Unmounter {
        let point = self.point.clone();
        Unmounter { point }
    }

    /// Answers the kernel until the directory is unmounted.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the kernel cannot be answered.
    pub fn serve(self) -> Result<()> {
        let result = self.session.run();
        // If it was not the end of the mount that ended this.
        let unmounted = self.point.unmount();
        result.map_err(|error| Error::target_io(Action::Serve, error))?;
        unmounted.map(|_| ())
    }
}

/// What ends a mount.
#[derive(Clone, Debug)]
pub struct Unmounter {
    point: Point,
}

impl Unmounter {
    /// Ends the mount: at once, or as soon as all files are closed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system refuses.
    pub fn unmount(&self) -> Result<Unmounted> {
        self.point.unmount()
    }
}

/// Opens an image.
fn open(path: &Path, options: &Options) -> Result<Chain> {
    let opening = Opening {
        format: options.format,
        taken_for: TakenFor::Image,
        access: options.access.clone(),
        open: Open::default(),
        ..Opening::default()
    };
    formats::open_image(path, &opening)
}

/// What the images say about themselves, and what could not be read when they were made.
fn warnings(disk: &Chain) -> Vec<Warning> {
    let remarks = disk.named_remarks();
    let mut warnings: Vec<_> = remarks
        .map(|(path, remark)| Warning::Image { path, remark })
        .collect();
    match disk.unreadable_then() {
        Ok(unreadable) if unreadable.is_empty() => {}
        Ok(unreadable) => {
            let bytes = unreadable.iter().map(length).sum();
            warnings.push(Warning::Unreadable { bytes });
        }
        Err(error) => warnings.push(Warning::NoRecord(error)),
    }
    warnings
}

/// When the image was last written to.
fn modified(disk: &Chain) -> SystemTime {
    let own = disk.stands_on().into_iter().next();
    let metadata = own.and_then(|own| own.file().metadata().ok());
    let modified = metadata.and_then(|metadata| metadata.modified().ok());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}
