//! Why an image cannot be restored while it comes through a pipe.

use crate::units::HostOffset;

/// Why an image cannot be read from a pipe, once and in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unstreamable {
    /// Its tables lie behind data, which has come and gone by then.
    #[error("its {what} at {at:#x} comes behind data, which is of no use without it", at = at.0)]
    TableBehind {
        /// Which table it is.
        what: &'static str,
        /// Where it begins.
        at: HostOffset,
    },
    /// Its data is in another order than on the disk.
    #[error("its data is in another order than on the disk: that of guest {guest:#x} lies at {at:#x}, in front of \
        what comes before it on the disk", at = at.0)]
    Order {
        /// Where the data belongs, in bytes of the disk.
        guest: u64,
        /// Where it lies.
        at: HostOffset,
    },
    /// Its format does not tell where its tables are, or keeps them anywhere.
    #[error("its format is {0}, expected qcow2")]
    Format(&'static str),
    /// There is no standard input.
    #[error("standard input is closed")]
    Closed,
    /// Nobody types an image.
    #[error("standard input is a terminal")]
    Terminal,
    /// Its data is not in it.
    #[error("its data lies in an external data file")]
    DataFile,
    /// What is asked for lies at its end.
    #[error("{0} needs what lies at its end, or reads it more than once")]
    Asked(&'static str),
}
