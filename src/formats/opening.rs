//! What opening an image takes, and what comes of it, whatever its format.

use std::ffi::OsString;
use std::sync::Arc;

use super::access::Access;
use super::layer::Layer;
use super::windows::Windows;
use crate::devices::FileId;

/// How one image of a disk is opened.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// Which of the files of the disk it is, counted from 0.
    pub(super) number: u32,
    /// The tables that all files of the disk keep in memory.
    pub(super) windows: Arc<Windows>,
    /// What was asked for.
    pub(super) access: &'a Access,
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
