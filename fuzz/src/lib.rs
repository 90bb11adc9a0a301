//! The targets are those of the ordinary tests, which run them over fixed seeds.

#[path = "../../tests/integration/mutations/targets.rs"]
mod targets;

pub use targets::{header, image, image_at, tables};
