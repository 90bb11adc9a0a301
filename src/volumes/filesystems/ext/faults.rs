//! What is wrong with a structure, said with its name and its place.

use crate::error::Expected;
use crate::volumes::doubt::Doubt;

/// A structure that is looked into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Structure {
    /// Its name.
    pub(super) name: &'static str,
    /// Where it begins in the underlying file or device.
    pub(super) at: u64,
}

impl Structure {
    /// Makes sure that a field holds what it may.
    pub(super) fn require(
        self,
        holds: bool,
        field: &'static str,
        found: u64,
        expected: Expected,
    ) -> Result<(), Doubt> {
        if holds {
            return Ok(());
        }
        Err(Doubt::Field {
            structure: self.name,
            at: self.at,
            field,
            found,
            expected,
        })
    }

    /// Makes sure that a field holds one value.
    pub(super) fn exactly(self, field: &'static str, found: u64, expected: u64) -> Result<(), Doubt> {
        self.require(found == expected, field, found, Expected::Exactly(expected))
    }

    /// Makes sure that a field holds no more than a value.
    pub(super) fn at_most(self, field: &'static str, found: u64, limit: u64) -> Result<(), Doubt> {
        self.require(found <= limit, field, found, Expected::AtMost(limit))
    }

    /// Makes sure that a field does not hold 0.
    pub(super) fn at_least_one(self, field: &'static str, found: u64) -> Result<(), Doubt> {
        self.require(found != 0, field, found, Expected::AtLeast(1))
    }

    /// Makes sure that the checksum that is recorded is that of what is there.
    pub(super) fn has_checksum(self, found: u32, expected: u32) -> Result<(), Doubt> {
        if found == expected {
            return Ok(());
        }
        Err(Doubt::Checksum {
            structure: self.name,
            at: self.at,
            found,
            expected,
        })
    }
}
