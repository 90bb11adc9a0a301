//! Copies a block device, a filesystem or a raw file into a packed qcow2 image.
//!
//! ```text
//! disk -> volumes -> clusters -> pipeline -> layout -> output
//!   |        |           |          |          |         a file without a name, synced, then named; or a stream
//!   |        |           |          |          L1, L2 tables, refcounts, checksums: where everything goes;
//!   |        |           |          |          equal clusters may share a compressed stream
//!   |        |           |          batches in order through the workers: read, zero test, CRC-32, compression
//!   |        |           the map cut into batches of clusters, ascending
//!   |        which byte ranges are in use, and why: holes, and what partition tables and filesystems tell; what is
//!   |        in doubt is in use
//!   block device, raw file, or the disk in an image: refused if in use
//! ```
//!
//! [`create()`] is all of that in one call, [`Imaging`] the same in two steps with a look at the plan in between. An
//! image goes to a path, or to standard output: [`Place`](output::Place).
//! [`restore()`] and [`Restoring`] are the way back, to a file, a block device or standard output:
//!
//! ```text
//! image -> restore (walk along its tables) -> pipeline -> output
//!                                               batches in order: read, decompress, compare checksums, zero test
//! ```
//!
//! What can be read by offset is a [`Disk`](disk::Disk): a [`FileDisk`](disk::FileDisk) byte by byte, a [`Chain`], which
//! is an image with all the files that it takes to read it, and a [`Part`](disk::Part) of another one. It tells where it
//! is data, zeros or free, what it [stands on](disk::Disk::stands_on), who may write to that, and whether it changed.
//! There is one way to [`open()`] one, whatever holds it. An [`Image`] is an image file that is looked into by itself.
//! [`compare()`] tells whether two disks hold the same bytes.
//!
//! [`volumes::scan`] tells what of a source is in use and what was recognised in it, [`Map`](map::Map) the same
//! range by range, of an image too.
//!
//! [`check()`] counts how often each cluster of an image is used, and holds its tables to the specification.
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
//!     checksums.for_each(|cluster, crc| println!("{} {crc:08x}", cluster.0))?;
//! }
//! # Ok(())
//! # }
//! ```

pub mod units;

pub mod error;

pub mod progress;

#[cfg(test)]
mod noise;

mod smallest;

pub mod devices;

pub mod disk;

pub mod volumes;

pub mod formats;

pub mod clusters;

pub mod pipeline;

pub mod output;

pub mod verify;

pub mod info;

pub mod map;

pub mod create;

pub mod restore;

pub mod check;

pub mod compare;

pub use check::check;
pub use compare::{Comparison, compare};
pub use create::{Imaging, Options, Plan, Report, Warning, create};
pub use error::{Error, Result};
pub use formats::qcow2::Image;
pub use formats::{Access, AnyDisk, Chain, Opening, open};
pub use progress::{Progress, Silent};
pub use restore::{Restoring, restore};
