//! qcow2: its structures, images that are read, and the layout of those that are written.

mod image;
mod layer;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "what is laid out is ours, and a wrong sum must stop the run"
)]
pub mod layout;
pub mod structures;

pub use image::checksums::{Checksums, ChecksumsInOrder};
pub use image::record::Record;
pub(crate) use image::runs::Cursor;
pub use image::runs::View;
pub use image::{Freshness, Image};
pub(in crate::formats) use layer::open;
