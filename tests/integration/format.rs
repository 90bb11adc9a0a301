//! The formats an image can have: thirteen cluster sizes, two versions.

use std::fmt;

/// A cluster size and a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub cluster_size: u64,
    pub compat: &'static str,
}

impl Format {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        (9..=21).flat_map(|bits| Self::both(1 << bits))
    }

    /// Both versions of a cluster size.
    pub fn both(cluster_size: u64) -> [Self; 2] {
        ["0.10", "1.1"].map(|compat| Self { cluster_size, compat })
    }

    /// How many bytes of the disk an L2 table maps.
    pub fn l2_reach(self) -> u64 {
        self.cluster_size / 8 * self.cluster_size
    }
}

/// As options of the command line.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--cluster-size {} --compat {}", self.cluster_size, self.compat)
    }
}
