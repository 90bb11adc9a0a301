//! qcow2: its structures, and images that are read.

mod image;
mod layer;
pub mod structures;

pub use image::Image;
pub use image::checksums::{Checksums, ChecksumsInOrder};
pub use image::freshness::Freshness;
pub(crate) use image::lookup::Lookup;
pub use image::record::Record;
pub(crate) use image::runs::Cursor;
pub use image::view::View;
pub(in crate::formats) use layer::open;
