//! A naive reader of the images that mkqcow2 makes. It shares no code with the crate, reads the whole file into
//! memory, and panics at whatever is not exactly as the specification and the design want it.

mod checksums;
mod layout;
mod record;
mod refcounts;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::disk::Disk;
use crate::format::Format;

pub use checksums::crc32;
pub use record::Record;
pub use streams::Stream;

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Incompatible feature: the header says how clusters are compressed.
const COMPRESSION: u64 = 1 << 3;

/// Bits 1 to 8 and 56 to 61 of an L2 entry; bit 0 is the zero flag.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;

/// Bits 0 to 8 and 56 to 62 of an L1 entry.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;

const AUTOCLEAR_CHECKSUMS: u64 = 1 << 63;
const FEATURE_NAMES: u32 = 0x6803_f857;
const CHECKSUMS: u32 = 0x6d6b_7163;

/// An image that was found to be right in every respect.
#[derive(Debug)]
pub struct Image {
    bytes: Vec<u8>,
    header: Header,
    /// Of every L1 entry that is not 0: its number and the host offset of the L2 table.
    tables: BTreeMap<u64, u64>,
    /// Every guest cluster that has an L2 entry.
    mapping: BTreeMap<u64, Mapping>,
    record: Record,
    /// Where the record ends.
    record_end: u64,
    /// Every stream, by the host offset where it begins.
    streams: BTreeMap<u64, Stream>,
}

/// What an L2 entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    /// Reads as zeros, takes no room.
    Zeros,
    /// At this host offset.
    Data(u64),
    /// A stream that begins at this host offset, in this many sectors.
    Stream { at: u64, sectors: u64 },
}

/// The fields that are not constants.
#[derive(Clone, Copy, Debug)]
struct Header {
    version: u32,
    cluster_bits: u32,
    is_zstd: bool,
    size: u64,
    l1_entries: u64,
    l1_at: u64,
    refcount_table_at: u64,
    refcount_table_clusters: u64,
    /// Offset and length of the checksum table.
    checksums: Option<(u64, u64)>,
}

impl Header {
    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn l2_entries(&self) -> u64 {
        self.cluster_size() / 8
    }

    /// Where the extensions begin.
    fn length(&self) -> u64 {
        match (self.version, self.is_zstd) {
            (2, _) => 72,
            (_, false) => 104,
            (_, true) => 112,
        }
    }

    fn guest_clusters(&self) -> u64 {
        self.size.div_ceil(self.cluster_size())
    }
}

impl Image {
    /// Reads an image and holds it to everything there is to hold it to.
    pub fn read(path: &Path) -> Self {
        Self::with(path, layout::verify)
    }

    /// The same of an image that was written in the order of its bytes.
    pub fn read_stream(path: &Path) -> Self {
        Self::with(path, layout::verify_stream)
    }

    fn with(path: &Path, verify_layout: fn(&Self)) -> Self {
        let bytes = fs::read(path).unwrap();
        let header = header(&bytes);
        let (tables, mapping) = mapping(&bytes, &header);
        let streams = streams::read(path, &bytes, &header, &mapping);
        let (record, record_end) = match header.checksums {
            Some((at, length)) => record::read(&bytes, at + length, header.cluster_bits, header.size),
            None => (Record::default(), 0),
        };
        let image = Self {
            bytes,
            header,
            tables,
            mapping,
            record,
            record_end,
            streams,
        };
        streams::verify(&image);
        verify_layout(&image);
        refcounts::verify(&image);
        checksums::verify(&image);
        record::verify_identity(&image);
        image
    }

    /// The version, as `--compat` has it.
    pub fn compat(&self) -> &'static str {
        if self.header.version == 3 { "1.1" } else { "0.10" }
    }

    pub fn cluster_size(&self) -> u64 {
        self.header.cluster_size()
    }

    /// The size of the virtual disk in bytes.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// The size of the file in bytes.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Holds it to a cluster size and a version, and to having checksums or not.
    #[track_caller]
    pub fn assert_format(&self, format: Format, has_checksums: bool) {
        let found = (self.compat(), self.cluster_size(), self.has_checksums());
        assert_eq!(found, (format.compat, format.cluster_size, has_checksums));
    }

    pub fn has_checksums(&self) -> bool {
        self.header.checksums.is_some()
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn l2_tables(&self) -> usize {
        self.tables.len()
    }

    /// The guest clusters that hold data, with their bytes.
    pub fn data(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.mapping
            .iter()
            .filter_map(|(cluster, mapping)| match mapping {
                Mapping::Data(host) => Some((*cluster, self.cluster(*host))),
                Mapping::Stream { at, .. } => Some((*cluster, self.streams[at].bytes.as_slice())),
                Mapping::Zeros => None,
            })
    }

    /// Whether its compressed clusters are of Zstandard, if there are any.
    pub fn is_zstd(&self) -> bool {
        self.header.is_zstd
    }

    /// The guest clusters that are compressed, with their streams.
    pub fn compressed(&self) -> impl Iterator<Item = (u64, &Stream)> {
        self.streams_at()
            .map(|(cluster, at)| (cluster, &self.streams[&at]))
    }

    /// All streams, once each, in the order of the file.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values()
    }

    /// How many bytes the streams that are shared would take once more for each cluster but the first, up to the
    /// end of their last sector: entries do not tell more.
    pub fn shared_bytes(&self) -> u64 {
        let reach = |mapping: &Mapping| match mapping {
            Mapping::Stream { at, sectors } => Some((*at, (at / 512 + sectors) * 512 - at)),
            Mapping::Data(_) | Mapping::Zeros => None,
        };
        let all: Vec<_> = self.mapping.values().filter_map(reach).collect();
        let once: BTreeMap<_, _> = all.iter().copied().collect();
        all.iter().map(|(_, bytes)| bytes).sum::<u64>() - once.values().sum::<u64>()
    }

    /// The most references that a host cluster has.
    pub fn most_references(&self) -> u32 {
        refcounts::references(self).into_iter().max().unwrap()
    }

    /// The guest clusters that are marked as zeros.
    pub fn zeros(&self) -> impl Iterator<Item = u64> {
        let zeros = self
            .mapping
            .iter()
            .filter(|(_, mapping)| **mapping == Mapping::Zeros);
        zeros.map(|(cluster, _)| *cluster)
    }

    /// Holds the virtual disk to what was written: data nowhere but where there is some, and zeros that were
    /// written marked as such.
    #[track_caller]
    pub fn assert_holds(&self, disk: &Disk) {
        assert_eq!(
            self.size(),
            disk.size().next_multiple_of(512),
            "size of the virtual disk"
        );
        let expected = disk.data_clusters(self.cluster_size());
        let (found, wanted): (Vec<_>, Vec<_>) = (
            self.data().map(|(cluster, _)| cluster).collect(),
            expected.keys().copied().collect(),
        );
        assert_eq!(found, wanted, "clusters that hold data");
        for (cluster, bytes) in self.data() {
            assert!(
                bytes == expected[&cluster],
                "cluster {cluster} holds other bytes than were written"
            );
        }
        if self.header.version == 3 {
            let zeros = disk
                .clusters(self.cluster_size())
                .into_keys()
                .filter(|n| !expected.contains_key(n));
            for cluster in zeros {
                let found = self.mapping.get(&cluster);
                assert_eq!(
                    found,
                    Some(&Mapping::Zeros),
                    "cluster {cluster}, written with zeros"
                );
            }
        }
    }

    /// Holds the virtual disk to what was written, and to data, be it zeros, in these clusters and no others.
    #[track_caller]
    pub fn assert_streams(&self, disk: &Disk, clusters: &BTreeSet<u64>) {
        assert_eq!(
            self.size(),
            disk.size().next_multiple_of(512),
            "size of the virtual disk"
        );
        let found: BTreeSet<_> = self.data().map(|(cluster, _)| cluster).collect();
        assert!(found == *clusters, "clusters that are in use");
        assert_eq!(self.zeros().count(), 0, "clusters that are marked as zeros");
        let expected = disk.data_clusters(self.cluster_size());
        let mut missing: BTreeSet<_> = expected.keys().collect();
        for (cluster, bytes) in self.data() {
            missing.remove(&cluster);
            match expected.get(&cluster) {
                Some(expected) => assert!(bytes == expected, "cluster {cluster} holds other bytes"),
                None => assert!(
                    bytes.iter().all(|byte| *byte == 0),
                    "cluster {cluster} is no zeros"
                ),
            }
        }
        assert!(missing.is_empty(), "not in the image: {missing:?}");
    }

    /// The guest clusters that are stored as they are, with their host offsets.
    fn data_at(&self) -> impl Iterator<Item = (u64, u64)> {
        self.mapping
            .iter()
            .filter_map(|(cluster, mapping)| match mapping {
                Mapping::Data(host) => Some((*cluster, *host)),
                Mapping::Stream { .. } | Mapping::Zeros => None,
            })
    }

    /// The guest clusters that are compressed, with the host offsets of their streams.
    fn streams_at(&self) -> impl Iterator<Item = (u64, u64)> {
        self.mapping
            .iter()
            .filter_map(|(cluster, mapping)| match mapping {
                Mapping::Stream { at, .. } => Some((*cluster, *at)),
                Mapping::Data(_) | Mapping::Zeros => None,
            })
    }

    fn cluster(&self, host: u64) -> &[u8] {
        bytes_at(&self.bytes, host, self.cluster_size())
    }
}

fn header(bytes: &[u8]) -> Header {
    assert_eq!(bytes_at(bytes, 0, 4), b"QFI\xfb", "magic");
    let version = u32_at(bytes, 4);
    assert!([2, 3].contains(&version), "version {version}");
    assert_eq!(u64_at(bytes, 8), 0, "offset of the name of the backing file");
    assert_eq!(u32_at(bytes, 16), 0, "length of the name of the backing file");
    assert_eq!(u32_at(bytes, 32), 0, "encryption");
    assert_eq!(u32_at(bytes, 60), 0, "number of snapshots");
    assert_eq!(u64_at(bytes, 64), 0, "offset of the snapshots");
    let mut header = Header {
        version,
        cluster_bits: u32_at(bytes, 20),
        is_zstd: false,
        size: u64_at(bytes, 24),
        l1_entries: u32_at(bytes, 36).into(),
        l1_at: u64_at(bytes, 40),
        refcount_table_at: u64_at(bytes, 48),
        refcount_table_clusters: u32_at(bytes, 56).into(),
        checksums: None,
    };
    assert!(
        (9..=21).contains(&header.cluster_bits),
        "cluster_bits {}",
        header.cluster_bits
    );
    assert!(
        header.size > 0 && header.size.is_multiple_of(512),
        "size {}",
        header.size
    );
    assert_eq!(
        header.l1_entries,
        header.guest_clusters().div_ceil(header.l2_entries()),
        "l1_size"
    );
    let mut autoclear = 0;
    if version == 3 {
        let incompatible = u64_at(bytes, 72);
        assert_eq!(incompatible & !COMPRESSION, 0, "incompatible features");
        header.is_zstd = incompatible == COMPRESSION;
        assert_eq!(u64_at(bytes, 80), 0, "compatible features");
        autoclear = u64_at(bytes, 88);
        assert_eq!(u32_at(bytes, 96), 4, "refcount_order");
        assert_eq!(u64::from(u32_at(bytes, 100)), header.length(), "header_length");
        if header.is_zstd {
            assert_eq!(bytes_at(bytes, 104, 1), [1], "compression type");
            assert_zeros(bytes, 105..112, "behind the compression type");
        }
    }
    header.checksums = extensions(bytes, &header);
    let expected = if version == 3 && header.checksums.is_some() {
        AUTOCLEAR_CHECKSUMS
    } else {
        0
    };
    assert_eq!(autoclear, expected, "autoclear features");
    header
}

/// Reads all extensions; returns what the one about checksums says.
fn extensions(bytes: &[u8], header: &Header) -> Option<(u64, u64)> {
    let mut at = header.length();
    let (mut checksums, mut names) = (None, Vec::new());
    loop {
        let (kind, length) = (u32_at(bytes, at), u64::from(u32_at(bytes, at + 4)));
        let data = at + 8;
        at = data + length.next_multiple_of(8);
        assert!(
            at <= header.cluster_size(),
            "extension {kind:#x} leaves the first cluster"
        );
        assert_zeros(bytes, data + length..at, "padding of an extension");
        match kind {
            0 => break,
            FEATURE_NAMES => {
                assert_eq!((header.version, length % 48), (3, 0), "feature name table");
                let entries = bytes_at(bytes, data, length).chunks(48);
                names = entries
                    .map(|entry| (entry[0], entry[1], text(&entry[2..])))
                    .collect();
            }
            CHECKSUMS => {
                assert_eq!(length, 24, "extension for checksums");
                assert_eq!(checksums, None, "extension for checksums: there are two");
                let (offset, length) = (u64_at(bytes, data), u64_at(bytes, data + 8));
                assert_eq!(u64_at(bytes, data + 16), offset + length, "offset of the record");
                checksums = Some((offset, length));
            }
            other => panic!("extension {other:#x} at {at:#x}"),
        }
    }
    assert_zeros(
        bytes,
        at..header.cluster_size(),
        "the first cluster behind the extensions",
    );
    let mut expected = Vec::new();
    if header.is_zstd {
        expected.push((0, 3, "compression type".to_owned()));
    }
    if header.version == 3 && checksums.is_some() {
        expected.push((2, 63, "mkqcow2 checksums".to_owned()));
    }
    assert_eq!(names, expected, "feature name table");
    checksums
}

/// A name that is padded with zeros.
fn text(padded: &[u8]) -> String {
    let name = padded.split(|byte| *byte == 0).next().unwrap();
    assert!(
        padded[name.len()..].iter().all(|byte| *byte == 0),
        "padding of a name"
    );
    String::from_utf8(name.to_vec()).unwrap()
}

/// Reads the L1 table and all L2 tables.
fn mapping(bytes: &[u8], header: &Header) -> (BTreeMap<u64, u64>, BTreeMap<u64, Mapping>) {
    let (mut tables, mut mapping) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..header.l1_entries {
        let entry = u64_at(bytes, header.l1_at + number * 8);
        if entry == 0 {
            continue;
        }
        let name = format!("L1 entry {number}, {entry:#x}");
        assert_eq!(entry & L1_RESERVED, 0, "{name}: reserved bits");
        // That the refcount is 1 as well is for the refcounts to say.
        assert_ne!(entry & COPIED, 0, "{name}: COPIED");
        let table = offset(entry, header, &name);
        tables.insert(number, table);
        let before = mapping.len();
        for index in 0..header.l2_entries() {
            let cluster = number * header.l2_entries() + index;
            let entry = u64_at(bytes, table + index * 8);
            if let Some(found) = l2_entry(
                entry,
                header,
                &format!("L2 entry of cluster {cluster}, {entry:#x}"),
            ) {
                assert!(
                    cluster < header.guest_clusters(),
                    "cluster {cluster} lies behind the end of the disk"
                );
                mapping.insert(cluster, found);
            }
        }
        assert!(mapping.len() > before, "L2 table {number} maps nothing");
    }
    (tables, mapping)
}

fn l2_entry(entry: u64, header: &Header, name: &str) -> Option<Mapping> {
    if entry & COMPRESSED != 0 {
        assert_eq!(entry & COPIED, 0, "{name}: COPIED");
        let sectors_from = 70 - header.cluster_bits;
        let descriptor = entry & !COMPRESSED;
        return Some(Mapping::Stream {
            at: descriptor & ((1 << sectors_from) - 1),
            sectors: (descriptor >> sectors_from) + 1,
        });
    }
    assert_eq!(entry & L2_RESERVED, 0, "{name}: reserved bits");
    match entry {
        0 => None,
        1 => {
            assert_eq!(header.version, 3, "{name}: zero flag");
            Some(Mapping::Zeros)
        }
        _ => {
            assert_eq!(entry & 1, 0, "{name}: zero flag with an offset");
            assert_ne!(entry & COPIED, 0, "{name}: COPIED");
            Some(Mapping::Data(offset(entry, header, name)))
        }
    }
}

fn offset(entry: u64, header: &Header, name: &str) -> u64 {
    let offset = entry & OFFSET;
    assert!(
        offset > 0 && offset.is_multiple_of(header.cluster_size()),
        "{name}: offset"
    );
    offset
}

fn u32_at(bytes: &[u8], at: u64) -> u32 {
    u32::from_be_bytes(bytes_at(bytes, at, 4).try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: u64) -> u64 {
    u64::from_be_bytes(bytes_at(bytes, at, 8).try_into().unwrap())
}

#[track_caller]
fn bytes_at(bytes: &[u8], at: u64, length: u64) -> &[u8] {
    let found = bytes.get(at as usize..(at + length) as usize);
    found.unwrap_or_else(|| panic!("{length} bytes at {at:#x}, the file has {:#x}", bytes.len()))
}

#[track_caller]
fn assert_zeros(bytes: &[u8], range: std::ops::Range<u64>, what: &str) {
    let found = bytes_at(bytes, range.start, range.end - range.start);
    assert!(
        found.iter().all(|byte| *byte == 0),
        "{what}, {range:#x?}, is not zeros"
    );
}
