//! What opening an image takes, and what comes of it, whatever its format.

use std::ffi::OsString;
use std::sync::Arc;

use super::access::Access;
use super::layer::Layer;
use super::windows::Windows;
use crate::devices::FileId;

/// What becomes of an image whose L1 table and refcount table overlap: one of them is in the wrong place, and it cannot
/// be known which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is refused: whatever the L1 table leads to may be what it does not say.
    #[default]
    Refused,
    /// It is read as the L1 table says, and [that is told](super::Remark::Overlap).
    Read,
}

/// How one image of a disk is opened.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// Which of the files of the disk it is, counted from 0.
    pub(super) number: u32,
    /// The tables that all files of the disk keep in memory.
    pub(super) windows: Arc<Windows>,
    /// What was asked for.
    pub(super) access: &'a Access,
    /// What becomes of it if its tables overlap.
    pub(super) overlap: Overlap,
}

/// An image that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) layer: Box<dyn Layer>,
    /// All files that it takes.
    pub(super) files: Vec<FileId>,
    /// Where to look for what is not allocated in it.
    pub(super) backing: Option<Backing>,
}

/// What an image says of its backing file.
#[derive(Debug)]
pub(super) struct Backing {
    /// As the image has it.
    pub(super) name: OsString,
    /// The name of its format, if the image tells that.
    pub(super) format: Option<String>,
}
