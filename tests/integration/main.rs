//! mkqcow2 as its users meet it, held against programs that share no code with it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test that panics has failed, which is what it is for"
)]

mod support;
