//! Copies a block device, a filesystem or a raw file into a packed qcow2 image.
//!
//! ```text
//! source -> allocation -> clusters -> pipeline -> layout -> sink
//!   |           |            |           |          |         a file without a name, synced, then named
//!   |           |            |           |          L1, L2 tables, refcounts, checksums: where everything goes
//!   |           |            |           batches in order through the workers: read, zero test, CRC-32
//!   |           |            the map cut into batches of clusters, ascending
//!   |           which byte ranges are in use, and why
//!   block device, raw file: refused if in use
//! ```
//!
//! [`create()`] is all of that in one call, [`Imaging`] the same in two steps with a look at the plan in between.
//! [`Image`] opens an image and loads its checksum table.
//!
//! ```no_run
//! # fn main() -> mkqcow2::Result<()> {
//! use std::path::Path;
//!
//! let (source, image) = (Path::new("/dev/sdb1"), Path::new("backup.qcow2"));
//! let report = mkqcow2::create(source, image, mkqcow2::Options::default(), &mkqcow2::Silent)?;
//! println!("{} bytes in use, {} in the image", report.used, report.written.image_size);
//!
//! let image = mkqcow2::Image::open(image)?;
//! if let Some(checksums) = image.checksums()? {
//!     checksums.for_each(|cluster, crc| println!("{} {crc:08x}", cluster.0))?;
//! }
//! # Ok(())
//! # }
//! ```

pub mod units;

pub mod error;

pub mod devices;

pub mod source;

pub mod allocation;

pub mod format;

pub mod clusters;

pub mod pipeline;

pub mod layout;

pub mod sink;

pub mod image;

pub mod progress;

pub mod create;

pub use create::{Imaging, Options, Plan, Report, Warning, create};
pub use error::{Error, Result};
pub use image::Image;
pub use progress::{Progress, Silent};
