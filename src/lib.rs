//! Copies a block device, a filesystem or a raw file into a packed qcow2 image.
//!
//! ```text
//! disk -> volumes -> clusters -> pipeline -> layout -> output
//!   |        |           |          |          |         a file without a name, synced, then named; or a stream
//!   |        |           |          |          L1, L2 tables, refcounts, checksums: where everything goes;
//!   |        |           |          |          equal clusters may share a compressed stream
//!   |        |           |          batches in order through the workers: read, zero test, CRC-32, compression
//!   |        |           the map cut into batches of clusters, ascending
//!   |        which byte ranges are in use, and why: from holes, partition tables and the maps of filesystems;
//!   |        a range in doubt counts as in use
//!   block device, raw file, or the disk in an image: refused if in use
//! ```
//!
//! [`create()`] does all of that in one call. [`Imaging`] does it in two steps, and shows the plan in between. An
//! image goes to a path, or to standard output: [`Place`](output::Place).
//! [`restore()`] and [`Restoring`] write the disk back to a file, a block device or standard output:
//!
//! ```text
//! image -> restore (walk along its tables) -> pipeline -> output
//!                                               batches in order: read, decompress, compare checksums, zero test
//! ```
//!
//! The modules are declared in the order in which they need each other: none takes anything from one below it.
//!
//! A [`Disk`](disk::Disk) can be read at any offset. There are three kinds: a [`FileDisk`](disk::FileDisk) is a file or
//! device, a [`Chain`] is an image with all the files needed to read it, and a [`Part`](disk::Part) is some ranges of another
//! disk. A disk reports which ranges are data, zeros or free, which files it [reads](disk::Disk::stands_on), which
//! programs may write to them, and whether they changed. [`open()`] opens a disk of any kind. An [`Image`] is one image
//! file without the other files of its chain. [`compare()`] compares two disks byte by byte.
//!
//! [`volumes::scan`] finds the ranges of a source that are in use, and recognises its partitions and filesystems.
//! [`Map`](map::Map) lists these ranges, and those of an image.
//!
//! [`merge()`] makes an image and those that it stands on one full image, in its place.
//!
//! [`Mounting`](mount::Mounting) shows the disk in an image, and its volumes, as files in a directory.
//!
//! [`check()`] counts how often each cluster of an image is used, and checks its tables against the specification.
//!
//! ```no_run
//! # fn main() -> mkqcow2::Result<()> {
//! use std::path::Path;
//!
//! use mkqcow2::disk::Disk;
//! use mkqcow2::{Opening, open};
//!
//! let (source, image) = (Path::new("/dev/sdb1"), Path::new("backup.qcow2"));
//! let report = mkqcow2::create(source, image, mkqcow2::Options::default(), &mkqcow2::Silent)?;
//! println!("{} bytes of data, {} in the image", report.data, report.written.image_size);
//!
//! let disk = open(image, &Opening::default())?;
//! let mut boot_sector = [0; 512];
//! disk.read_at(&mut boot_sector, 0)?;
//! let image = disk.image().and_then(|chain| chain.image());
//! if let Some(image) = image && let Some(checksums) = image.checksums()? {
//!     checksums.for_each(|cluster, sum| println!("{} {:08x}", cluster.0, sum.crc))?;
//! }
//! # Ok(())
//! # }
//! ```

pub mod units;
pub mod uuid;

pub mod error;

pub mod progress;

#[cfg(test)]
mod noise;

mod signatures;

mod smallest;

mod idle;

pub mod zero;

pub mod devices;

pub mod disk;

pub mod volumes;

pub mod formats;

pub mod clusters;

pub mod pipeline;

pub mod output;

pub mod layout;

pub mod map;

pub mod info;

pub mod check;

pub mod verify;

pub mod compare;

pub mod create;

pub mod merge;

pub mod restore;

pub mod mount;

pub use check::check;
pub use compare::{Comparison, compare};
pub use create::{Imaging, Options, Plan, Report, Warning, create};
pub use error::{Error, Result};
pub use formats::qcow2::Image;
pub use formats::{Access, AnyDisk, Chain, Opening, open};
pub use merge::{Merging, merge};
pub use progress::{Progress, Silent};
pub use restore::{Restoring, restore};
