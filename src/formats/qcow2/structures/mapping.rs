//! L1 and L2 table entries. Spec: qcow2.txt, "Cluster mapping".

use super::geometry::{Geometry, L2Form};
use super::header::Compat;
use crate::error::Expected;
use crate::units::{Exact, HostOffset, SECTOR};

/// Bit 63 of an L1 entry or a standard L2 entry: the refcount of what it points to is exactly 1.
const COPIED: u64 = 1 << 63;

/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;

/// Bit 0 of a standard L2 entry (version 3): the cluster reads as zeros.
const ZERO: u64 = 1;

/// Bits 9 to 55: a host offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Bits 0 to 8 and 56 to 62 of an L1 entry.
const L1_RESERVED: u64 = !(COPIED | OFFSET);

/// Bits 1 to 8 and 56 to 61 of an L2 entry that is not compressed.
const L2_RESERVED: u64 = !(COPIED | COMPRESSED | OFFSET | ZERO);

/// How many parts an extended L2 entry allocates on their own.
const SUBCLUSTERS: u32 = 32;

/// An L1 or L2 entry in the byte order of the disk.
pub type Entry = [u8; 8];

/// An L2 entry for a cluster that reads as zeros and takes no room. Version 3 only.
pub const ZERO_CLUSTER: Entry = ZERO.to_be_bytes();

/// An entry for the only reference to what lies at `offset`, a multiple of the cluster size: an L2 table in an
/// L1 entry, an uncompressed cluster in an L2 entry.
pub fn only_reference_to(offset: HostOffset) -> Entry {
    (COPIED | offset.0).to_be_bytes()
}

/// An L2 entry for a cluster that is compressed into the `length` bytes from `at` on. Spec: "Compressed Clusters
/// Descriptor".
///
/// # Panics
///
/// If the stream is empty, is as long as two clusters, or lies behind [`compressed_reach`].
pub fn compressed(geometry: Geometry, at: HostOffset, length: u64) -> Entry {
    // An empty stream, which is refused, has no last byte.
    let last = at + length.max(1).minus(1);
    let sectors = (last.0 / SECTOR).minus(at.0 / SECTOR);
    let is_valid =
        length > 0 && last.0 < compressed_reach(geometry) && sectors < geometry.cluster_size() / 256;
    assert!(is_valid, "a compressed cluster of {length} bytes at {:#x}", at.0);
    (COMPRESSED | sectors << offset_bits(geometry) | at.0).to_be_bytes()
}

/// Where compressed clusters have to end, in bytes of the image: their entries have fewer bits for the offset.
pub fn compressed_reach(geometry: Geometry) -> u64 {
    1 << offset_bits(geometry)
}

/// The bits that the offset of a compressed cluster has: 61 down to 49, for the cluster has 9 to 21.
fn offset_bits(geometry: Geometry) -> u32 {
    70_u32.minus(geometry.cluster().bits())
}

/// Whether an L1 or L2 entry claims that the refcount of what it points to is exactly 1.
pub fn is_copied(entry: u64) -> bool {
    entry & COPIED != 0
}

/// Where the bytes of a compressed cluster are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The first byte; not aligned.
    pub at: HostOffset,
    /// Up to how many bytes it has: it may end before, in the last sector of 512 bytes.
    pub length: u64,
}

/// Where a cluster, or a subcluster, of the virtual disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// In the backing file, or nowhere: then it reads as zeros.
    Unallocated,
    /// Nowhere: it reads as zeros.
    Zero,
    /// It reads as zeros, whatever lies in the room that is kept for it.
    ZeroAllocated(HostOffset),
    /// There, as it is.
    Data(HostOffset),
    /// There, compressed with all the rest of its cluster.
    Compressed(Stream),
}

/// What an L2 entry says of a cluster as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Not compressed. Of the two sets, bit x is for subcluster x; where there are none, bit 0 is for all of it.
    Standard {
        /// The room that it has, if it has any.
        at: Option<HostOffset>,
        /// What is data in that room.
        data: u32,
        /// What reads as zeros, whatever lies in that room.
        zeros: u32,
    },
    /// Compressed.
    Compressed(Stream),
}

/// What an L1 entry says.
///
/// # Errors
///
/// What should have been there instead.
pub fn l1_entry(entry: u64, geometry: Geometry) -> Result<Option<HostOffset>, Expected> {
    if entry & L1_RESERVED != 0 {
        return Err(Expected::Clear(L1_RESERVED));
    }
    let offset = aligned(entry, geometry)?;
    if offset.0 == 0 && is_copied(entry) {
        return Err(Expected::That("an offset behind the header"));
    }
    Ok((offset.0 != 0).then_some(offset))
}

/// How the L2 entries of an image are to be understood.
#[derive(Clone, Copy, Debug)]
pub struct L2Rules {
    /// Size of clusters and form of entries.
    pub geometry: Geometry,
    /// Version 2 has no zero flag.
    pub compat: Compat,
    /// Offsets are those in an external data file.
    pub data_file: bool,
}

impl L2Rules {
    /// What an L2 entry says about one of its subclusters, the number of which is 0 to 31, or 0 if the form is
    /// standard. `bitmap` is the second half of an extended entry. The host offset is that of the subcluster.
    ///
    /// # Errors
    ///
    /// What should have been there instead, and whether it is the bitmap that is wrong.
    pub fn decode(&self, entry: u64, bitmap: u64, subcluster: u32) -> Result<Mapping, Wrong> {
        let (at, data, zeros) = match self.cluster(entry, bitmap)? {
            Cluster::Standard { at, data, zeros } => (at, data, zeros),
            Cluster::Compressed(stream) => return Ok(Mapping::Compressed(stream)),
        };
        let is_in = |set: u32| set.checked_shr(subcluster).is_some_and(|set| set & 1 == 1);
        // Offsets have 56 bits, and what is added to them has 53 at most.
        let within = u64::from(subcluster).times(self.geometry.subcluster_size());
        let at = at.map(|at| at + within);
        Ok(match at {
            None if is_in(zeros) => Mapping::Zero,
            Some(at) if is_in(zeros) => Mapping::ZeroAllocated(at),
            Some(at) if is_in(data) => Mapping::Data(at),
            _ => Mapping::Unallocated,
        })
    }

    /// What an L2 entry says about all of its cluster. `bitmap` is the second half of an extended entry.
    ///
    /// # Errors
    ///
    /// What should have been there instead, and whether it is the bitmap that is wrong.
    pub fn cluster(&self, entry: u64, bitmap: u64) -> Result<Cluster, Wrong> {
        if entry & COMPRESSED != 0 {
            return self.compressed(entry);
        }
        if entry & L2_RESERVED != 0 {
            return Err(Wrong::Entry(Expected::Clear(L2_RESERVED)));
        }
        let offset = aligned(entry, self.geometry).map_err(Wrong::Entry)?;
        // Offset 0 is that of the header, but for an external data file that of its first cluster.
        let is_allocated = offset.0 != 0 || (self.data_file && is_copied(entry));
        if !is_allocated && is_copied(entry) {
            return Err(Wrong::Entry(Expected::That("an offset behind the header")));
        }
        let at = is_allocated.then_some(offset);
        let is_zero = entry & ZERO != 0;
        match self.geometry.l2_form() {
            L2Form::Standard if is_zero && self.compat == Compat::V0_10 => {
                Err(Wrong::Entry(Expected::That("no zero flag in version 2")))
            }
            L2Form::Standard => Ok(Cluster::Standard {
                at,
                data: u32::from(is_allocated && !is_zero),
                zeros: u32::from(is_zero),
            }),
            // Reserved, and ignored by QEMU.
            L2Form::Extended => subclusters(at, bitmap).map_err(Wrong::Bitmap),
        }
    }

    /// What is wrong with an extended L2 entry, or with its bitmap, and ignored by QEMU and by readers here: bit 0 of
    /// an entry that is not compressed, the bitmap of one that is.
    pub fn ignored(&self, entry: u64, bitmap: u64) -> Option<Wrong> {
        if self.geometry.l2_form() == L2Form::Standard {
            return None;
        }
        if entry & COMPRESSED != 0 {
            return (bitmap != 0).then_some(Wrong::Bitmap(Expected::Exactly(0)));
        }
        (entry & ZERO != 0).then_some(Wrong::Entry(Expected::Clear(ZERO)))
    }

    /// Where the room for a subcluster is, if its cluster is allocated, whether it is itself or not.
    pub fn room(&self, entry: u64, subcluster: u32) -> Option<HostOffset> {
        let cluster = entry & OFFSET;
        let within = u64::from(subcluster).times(self.geometry.subcluster_size());
        let has_room = entry & COMPRESSED == 0 && cluster != 0;
        has_room.then_some(HostOffset(cluster) + within)
    }

    /// Spec: "Compressed Clusters Descriptor". Bit 63 should be clear, but does not matter to a reader.
    fn compressed(&self, entry: u64) -> Result<Cluster, Wrong> {
        if self.data_file {
            let expected = Expected::That("no compressed cluster in an image with an external data file");
            return Err(Wrong::Entry(expected));
        }
        // The number of sectors has 13 bits at most, and there is always the first.
        let offset_bits = offset_bits(self.geometry);
        let descriptor = entry & !(COPIED | COMPRESSED);
        let at = descriptor & !(u64::MAX << offset_bits);
        let sectors = (descriptor >> offset_bits).plus(1);
        let length = sectors.times(SECTOR).minus(at % SECTOR);
        if at < self.geometry.cluster_size() {
            return Err(Wrong::Entry(Expected::That("an offset behind the header")));
        }
        Ok(Cluster::Compressed(Stream {
            at: HostOffset(at),
            length,
        }))
    }
}

/// Spec: "Extended L2 Entries".
fn subclusters(at: Option<HostOffset>, bitmap: u64) -> Result<Cluster, Expected> {
    let half = |bits| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    let (zeros, data) = (half(bitmap >> SUBCLUSTERS), half(bitmap));
    if zeros & data != 0 {
        return Err(Expected::That("no subcluster that is both allocated and zeros"));
    }
    if at.is_none() && data != 0 {
        return Err(Expected::That("no subcluster allocated where the cluster is not"));
    }
    Ok(Cluster::Standard { at, data, zeros })
}

/// Which half of an L2 entry is wrong, and what it should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The descriptor of the cluster.
    Entry(Expected),
    /// The bitmap of an extended entry.
    Bitmap(Expected),
}

fn aligned(entry: u64, geometry: Geometry) -> Result<HostOffset, Expected> {
    let offset = entry & OFFSET;
    if offset.is_multiple_of(geometry.cluster_size()) {
        Ok(HostOffset(offset))
    } else {
        Err(Expected::MultipleOf(geometry.cluster_size()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::qcow2::structures::geometry::ClusterSize;

    fn rules(form: L2Form, compat: Compat, data_file: bool) -> L2Rules {
        let geometry = Geometry::of_image(ClusterSize::DEFAULT, 1 << 30, form).unwrap();
        L2Rules {
            geometry,
            compat,
            data_file,
        }
    }

    #[test]
    fn standard_entries_are_told_apart() {
        let rules = rules(L2Form::Standard, Compat::V1_1, false);
        let decode = |entry| rules.decode(entry, 0, 0);
        assert_eq!(decode(0), Ok(Mapping::Unallocated));
        assert_eq!(decode(1), Ok(Mapping::Zero));
        assert_eq!(decode(COPIED | 0x50000), Ok(Mapping::Data(HostOffset(0x50000))));
        assert_eq!(decode(0x50001), Ok(Mapping::ZeroAllocated(HostOffset(0x50000))));
        assert!(decode(COPIED | 0x50200).is_err(), "unaligned");
        assert!(decode(COPIED).is_err(), "the header");
        for bit in (1..9).chain(56..62) {
            assert!(decode(COPIED | 0x50000 | 1 << bit).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn version_2_has_no_zero_flag() {
        let rules = rules(L2Form::Standard, Compat::V0_10, false);
        assert!(rules.decode(0x50001, 0, 0).is_err());
    }

    #[test]
    fn a_compressed_cluster_begins_anywhere_and_ends_with_a_sector() {
        let rules = rules(L2Form::Standard, Compat::V0_10, false);
        let stream = Stream {
            at: HostOffset(0x50123),
            length: 3 * 512 - 0x123,
        };
        let entry = COMPRESSED | 2 << 54 | 0x50123;
        assert_eq!(rules.decode(entry, 0, 0), Ok(Mapping::Compressed(stream)));
        assert!(rules.decode(COMPRESSED | 5, 0, 0).is_err(), "in the header");
    }

    #[test]
    fn what_is_written_for_a_compressed_cluster_is_read_as_that() {
        for bits in 9..=21 {
            let cluster = ClusterSize::from_bits(bits).unwrap();
            let geometry = Geometry::new(cluster, 1 << 30).unwrap();
            let rules = L2Rules {
                geometry,
                compat: Compat::V0_10,
                data_file: false,
            };
            let reach = compressed_reach(geometry);
            for length in [1, 2, 511, 512, 513, cluster.bytes() - 1] {
                for at in [
                    cluster.bytes(),
                    cluster.bytes() + 1,
                    (7 << 21) - 1,
                    reach - length,
                ] {
                    let entry = u64::from_be_bytes(compressed(geometry, HostOffset(at), length));
                    let Ok(Mapping::Compressed(stream)) = rules.decode(entry, 0, 0) else {
                        panic!("{bits} bits, {length} bytes at {at:#x}");
                    };
                    assert_eq!(stream.at, HostOffset(at));
                    assert!((length..length + 512).contains(&stream.length));
                    assert!((at + stream.length).is_multiple_of(512));
                    assert_eq!(entry >> 62, 1, "not copied");
                }
            }
        }
    }

    #[test]
    fn offset_0_is_a_place_in_a_data_file_only() {
        let rules = rules(L2Form::Standard, Compat::V1_1, true);
        assert_eq!(rules.decode(COPIED, 0, 0), Ok(Mapping::Data(HostOffset(0))));
        assert_eq!(rules.decode(0, 0, 0), Ok(Mapping::Unallocated));
        assert!(rules.decode(COMPRESSED | 0x50000, 0, 0).is_err());
    }

    #[test]
    fn subclusters_are_allocated_one_by_one() {
        let rules = rules(L2Form::Extended, Compat::V1_1, false);
        let bitmap = 1 << 33 | 1;
        let decode = |number| rules.decode(COPIED | 0x50000, bitmap, number);
        assert_eq!(decode(0), Ok(Mapping::Data(HostOffset(0x50000))));
        assert_eq!(decode(1), Ok(Mapping::ZeroAllocated(HostOffset(0x50800))));
        assert_eq!(decode(2), Ok(Mapping::Unallocated));
        assert!(rules.decode(COPIED | 0x50000, 1 << 32 | 1, 5).is_err());
        assert!(rules.decode(0, 1, 5).is_err());
        assert_eq!(rules.decode(0, 1 << 37, 5), Ok(Mapping::Zero));
    }

    #[test]
    fn an_l1_entry_is_a_table_or_nothing() {
        let geometry = Geometry::new(ClusterSize::DEFAULT, 1 << 30).unwrap();
        assert_eq!(l1_entry(0, geometry), Ok(None));
        assert_eq!(
            l1_entry(COPIED | 0x30000, geometry),
            Ok(Some(HostOffset(0x30000)))
        );
        assert_eq!(l1_entry(0x30200, geometry), Err(Expected::MultipleOf(0x10000)));
        assert!(l1_entry(COPIED, geometry).is_err(), "the header");
        for bit in (0..9).chain(56..63) {
            assert!(l1_entry(0x30000 | 1 << bit, geometry).is_err(), "bit {bit}");
        }
    }
}
