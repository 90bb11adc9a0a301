//! Why a map cannot be trusted.

use crate::error::{Error, Expected};

/// Why what a partition table or a filesystem says of itself cannot be trusted: it is copied whole then. Offsets are
/// those of the underlying file or device, in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// A structure cannot be read.
    #[error("{structure} at {at:#x} cannot be read: {}", cause(error))]
    Unreadable {
        /// Its name.
        structure: &'static str,
        /// Where it begins.
        at: u64,
        /// What the system said.
        error: Box<Error>,
    },
    /// A structure, or what it speaks of, does not fit.
    #[error("{structure} at {at:#x} would end at {end:#x}, past the end at {limit:#x}")]
    PastEnd {
        /// Its name.
        structure: &'static str,
        /// Where it begins.
        at: u64,
        /// Where it would end.
        end: u64,
        /// Where the partition, or whatever it has to lie in, ends.
        limit: u64,
    },
    /// A field holds what it cannot.
    #[error("{structure} at {at:#x}: {field} is {found:#x}, expected {expected}")]
    Field {
        /// The structure that holds the field.
        structure: &'static str,
        /// Where the structure begins.
        at: u64,
        /// The name that the specification gives it.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What would have been right.
        expected: Expected,
    },
    /// A structure does not have the checksum that it should.
    #[error("{structure} at {at:#x}: checksum is {found:#x}, expected {expected:#x}")]
    Checksum {
        /// Its name.
        structure: &'static str,
        /// Where it begins.
        at: u64,
        /// That is recorded.
        found: u32,
        /// Of what is there.
        expected: u32,
    },
    /// Text is not such as its format has.
    #[error("{structure} at {at:#x}, line {line}: {fault}")]
    Text {
        /// The structure that is text.
        structure: &'static str,
        /// Where it begins.
        at: u64,
        /// The line, from 1 on.
        line: u64,
        /// What is wrong there.
        fault: &'static str,
    },
    /// A volume manager's metadata says of something by name what cannot be, or is not understood.
    #[error("{what} {name:?}: {fault}")]
    Named {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A count that is kept is not what there is.
    #[error("{what}: {recorded} recorded, {counted} found")]
    Count {
        /// What was counted.
        what: &'static str,
        /// The number that is kept.
        recorded: u64,
        /// The number that was found.
        counted: u64,
    },
    /// A file cannot be followed to all of its blocks.
    #[error("inode {inode}: {fault}")]
    Inode {
        /// The number of its inode.
        inode: u32,
        /// What is wrong.
        fault: Box<Doubt>,
    },
    /// There is more of something than is looked into.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What there is so much of.
        what: &'static str,
        /// How much of it is looked into.
        limit: u64,
    },
    /// It says so itself, or it has what this version does not understand.
    #[error("{0}")]
    State(&'static str),
    /// Two formats are recognised in the same place, of which one must be a remnant.
    #[error("it looks like {0} and like {1}")]
    Ambiguous(&'static str, &'static str),
    /// A partition shares bytes with another one that does not begin and end with it.
    #[error("it overlaps with another partition")]
    Overlaps,
}

/// What the system said: the place is told already.
fn cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    // The number, which the standard library puts behind the words.
    let words = text.split(" (os error ").next();
    words.unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::error::{Action, Side};

    #[test]
    fn what_cannot_be_read_is_told_with_its_place_once() {
        let doubt = Doubt::Unreadable {
            structure: "superblock",
            at: 1024,
            error: Box::new(Error::Io {
                side: Side::Source,
                action: Action::Read(1024),
                source: io::Error::from_raw_os_error(5),
            }),
        };
        assert_eq!(
            doubt.to_string(),
            "superblock at 0x400 cannot be read: Input/output error"
        );
    }
}
