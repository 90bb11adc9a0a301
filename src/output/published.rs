//! What became of the name.

use std::io;

/// What became of the name of the target.
#[derive(Debug)]
pub enum Published {
    /// As surely as was asked for.
    AsAsked,
    /// The file is in place, but its directory could not be synced.
    Perhaps(io::Error),
    /// The directory has another name by now, and with it the file.
    Elsewhere,
}
