//! The formats of disk images, and the disks that they hold. Images are hostile input: every value is checked before it
//! is used.
//!
//! An [`Image`](qcow2::Image) is one file of qcow2: header, tables, snapshots, checksums; a
//! [`LegacyImage`](legacy::LegacyImage) is one of a format that is older and simpler. A [`Chain`] is an image with all the
//! files that it takes to read it.

#![warn(clippy::arithmetic_side_effects)]

mod access;
mod any;
mod bases;
mod beside;
mod chain;
mod cipher;
mod decompress;
mod format;
mod gaps;
mod guard;
mod guarded;
mod held;
mod host;
mod host_run;
mod identity;
mod known;
mod layer;
pub mod legacy;
mod lost;
mod open;
mod opening;
mod piped;
mod qcow1;
pub mod qcow2;
mod qed;
mod recorded;
mod registry;
mod remark;
mod windows;

pub use access::Access;
pub use any::AnyDisk;
pub use bases::Bases;
pub use chain::{Chain, ChainRun};
pub use cipher::Password;
pub(crate) use decompress::Decoders;
pub use format::Format;
pub(crate) use guard::{Guards, mismatch};
pub(crate) use guarded::Sums;
pub use host::HostFile;
pub(crate) use host::truncated;
pub use host_run::HostRun;
pub(crate) use known::Known;
pub(crate) use open::{MAX_DEPTH, open_image, refuse_raw};
pub use open::{Opening, TakenFor, open};
pub use opening::Overlap;
pub(crate) use piped::PipedImage;
pub(crate) use registry::image_format;
pub use registry::{Single, is_image};
pub use remark::{Remark, Trace};
