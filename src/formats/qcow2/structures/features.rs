//! Feature bits of version 3. Spec: qcow2.txt, "Header".

/// Incompatible bit 0: refcounts may be wrong, for the image was not closed.
pub const DIRTY: u32 = 0;
/// Incompatible bit 1: QEMU found the image to be corrupt.
pub const CORRUPT: u32 = 1;
/// Incompatible bit 2: all clusters of the disk are in an external data file.
pub const DATA_FILE: u32 = 2;
/// Incompatible bit 3: the compression type is not zlib.
pub const COMPRESSION: u32 = 3;
/// Incompatible bit 4: L2 entries are extended.
pub const EXTENDED_L2: u32 = 4;

/// Compatible bit 0: refcounts are written late.
pub const LAZY_REFCOUNTS: u32 = 0;

/// Autoclear bit 0: the bitmaps are up to date.
pub const BITMAPS: u32 = 0;
/// Autoclear bit 1: the external data file is a raw image of the disk.
pub const RAW_DATA_FILE: u32 = 1;

/// The incompatible bits that are known here.
const KNOWN: u64 = 0b1_1111;

/// What a feature bit means for a program that does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeatureKind {
    /// It must not read the image.
    Incompatible,
    /// It may ignore it.
    Compatible,
    /// It clears the bit when it writes to the image.
    Autoclear,
}

impl FeatureKind {
    /// Its number in a feature name table.
    pub fn number(self) -> u8 {
        match self {
            Self::Incompatible => 0,
            Self::Compatible => 1,
            Self::Autoclear => 2,
        }
    }
}

/// What the specification calls a feature.
pub fn name(kind: FeatureKind, bit: u32) -> Option<&'static str> {
    match (kind, bit) {
        (FeatureKind::Incompatible, DIRTY) => Some("dirty bit"),
        (FeatureKind::Incompatible, CORRUPT) => Some("corrupt bit"),
        (FeatureKind::Incompatible, DATA_FILE) => Some("external data file"),
        (FeatureKind::Incompatible, COMPRESSION) => Some("compression type"),
        (FeatureKind::Incompatible, EXTENDED_L2) => Some("extended L2 entries"),
        (FeatureKind::Compatible, LAZY_REFCOUNTS) => Some("lazy refcounts"),
        (FeatureKind::Autoclear, BITMAPS) => Some("bitmaps"),
        (FeatureKind::Autoclear, RAW_DATA_FILE) => Some("raw external data"),
        _ => None,
    }
}

/// The three sets of feature bits; all are clear in version 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureBits {
    /// Those without which the image must not be read.
    pub incompatible: u64,
    /// Those that can be ignored.
    pub compatible: u64,
    /// Those that a program which does not know them clears when it writes.
    pub autoclear: u64,
}

impl FeatureBits {
    /// Whether a bit is set.
    pub fn has(&self, kind: FeatureKind, bit: u32) -> bool {
        let bits = match kind {
            FeatureKind::Incompatible => self.incompatible,
            FeatureKind::Compatible => self.compatible,
            FeatureKind::Autoclear => self.autoclear,
        };
        1_u64.checked_shl(bit).is_some_and(|mask| bits & mask != 0)
    }

    /// The incompatible bits that are set and not known here, ascending.
    pub fn unknown(&self) -> impl Iterator<Item = u32> + use<> {
        let unknown = self.incompatible & !KNOWN;
        (0..u64::BITS).filter(move |bit| unknown >> bit & 1 == 1)
    }
}
