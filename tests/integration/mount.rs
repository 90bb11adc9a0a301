//! The disk in an image as files in a directory.

mod ends;
mod json;
mod recovers;
mod refused;
pub mod served;
mod shows;
mod written;
