//! Images of random clusters, made in memory and held to what every image has to be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::formats::qcow2::structures::geometry::{ClusterCounts, ClusterSize, Geometry, Room};
use crate::formats::qcow2::structures::header::Compression;
use crate::output::MemoryImage;
use crate::pipeline::compress::longest;
use crate::volumes::{AllocationMap, MapBuilder, Reason};

/// What is at a place of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
    Hole,
    Zeros,
    Plain,
    /// Streams of the same length and `id` are equal. Those with 2 and 3 have the same checksum.
    Stream {
        id: u8,
        length: u64,
    },
}

/// A disk, and how an image is made of it.
#[derive(Clone, Debug)]
struct Case {
    bits: u32,
    clusters: Vec<Cluster>,
    compat: Compat,
    checksums: bool,
    dedupe: Option<u64>,
    /// How many clusters come together at most.
    batch: usize,
    /// How many tables are kept in memory at most.
    tables: u64,
}

/// A file that is written from its front to its end, in its front whenever it is known, at its very beginning last
/// of all, and read where it was written.
#[derive(Debug)]
struct AscendingImage {
    image: MemoryImage,
    /// Where the front ends: header, L1 table and refcount table.
    front: u64,
    /// The end of what was written behind that.
    written: u64,
    /// Whether the header is there, behind which nothing comes.
    is_complete: bool,
}

impl WriteAt for AscendingImage {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        let end = at.0 + to_u64(bytes.len());
        assert!(!self.is_complete, "a write at {at:?} behind the header");
        if at.0 < self.front {
            assert!(end <= self.front, "a write over the end of the front");
            self.is_complete = at.0 == 0;
        } else {
            assert!(!bytes.is_empty(), "a write of nothing");
            assert!(
                self.written <= at.0,
                "a write at {at:?} behind {:#x}",
                self.written
            );
            self.written = end;
        }
        self.image.write_at(bytes, at)
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        assert!(self.written <= length);
        self.image.set_len(length)
    }

    fn scratch(&self) -> Result<File> {
        self.image.scratch()
    }
}

impl ReadBack for AscendingImage {
    fn read_at(&self, bytes: &mut [u8], at: HostOffset) -> Result<()> {
        let end = at.0 + to_u64(bytes.len());
        assert!(self.front <= at.0 && end <= self.written, "not written: {at:?}");
        self.image.read_at(bytes, at)
    }
}

impl Case {
    fn geometry(&self) -> Geometry {
        let cluster = ClusterSize::from_bits(self.bits).unwrap();
        Geometry::new(cluster, to_u64(self.clusters.len()) << self.bits).unwrap()
    }

    fn cluster_size(&self) -> usize {
        1 << self.bits
    }

    /// What is in a cluster that is stored as it is.
    fn plain(&self, number: usize) -> Vec<u8> {
        let mut bytes = vec![0xaa; self.cluster_size()];
        bytes[..8].copy_from_slice(&to_u64(number).to_be_bytes());
        bytes
    }

    /// The same but for the last byte if only the `id` differs.
    fn stream(id: u8, length: u64) -> Vec<u8> {
        let mut bytes = vec![0x55; to_usize(length)];
        *bytes.last_mut().unwrap() = id;
        bytes
    }

    fn digests(&self) -> bool {
        self.bits.is_multiple_of(2)
    }

    /// What is known of a cluster, whatever its content.
    fn sum(&self, crc: u32) -> Sum {
        let digest = self.digests().then_some([7; 32]);
        Sum { crc, digest }
    }

    fn design(&self) -> Design {
        let geometry = self.geometry();
        let in_use = |number: usize| self.clusters[number] != Cluster::Hole;
        let used: Vec<_> = (0..self.clusters.len())
            .filter(|number| in_use(*number))
            .collect();
        let table = |number: &usize| geometry.indices_of(GuestCluster(to_u64(*number))).0;
        let tables: BTreeSet<_> = used.iter().map(table).collect();
        let starts = used
            .iter()
            .filter(|number| number.checked_sub(1).is_none_or(|before| !in_use(before)));
        let content = ClusterCounts {
            clusters: to_u64(used.len()),
            l2_tables: to_u64(tables.len()),
            runs: to_u64(starts.count()),
        };
        let is_compressed = |cluster: &Cluster| matches!(cluster, Cluster::Stream { .. });
        let is_any_compressed = self.clusters.iter().any(is_compressed);
        Design {
            geometry,
            compat: self.compat,
            room: Room::new(geometry, content, mapping::compressed_reach(geometry)).unwrap(),
            // The cache is as large as this asks for.
            content: ClusterCounts {
                l2_tables: content.l2_tables.min(self.tables),
                ..content
            },
            checksums: self.checksums,
            digests: self.digests(),
            record: record::length(&self.map(), geometry, None, None, None, self.digests()),
            compression: is_any_compressed.then_some(Compression::Zlib),
        }
    }

    /// What of the disk is in use; holes are free.
    fn map(&self) -> AllocationMap {
        let geometry = self.geometry();
        let mut map = MapBuilder::all_free(geometry.size());
        for (number, cluster) in (0..).zip(&self.clusters) {
            if *cluster != Cluster::Hole {
                let start = geometry.start_of(GuestCluster(number)).0;
                map.used(start..start + geometry.cluster_size(), Reason::Data);
            }
        }
        map.build()
    }

    /// What the workers make of the disk.
    fn batches(&self) -> Vec<Encoded> {
        let mut batches: Vec<Encoded> = Vec::new();
        let mut is_behind_hole = true;
        for (number, cluster) in self.clusters.iter().enumerate() {
            if *cluster == Cluster::Hole {
                is_behind_hole = true;
                continue;
            }
            if is_behind_hole || batches.last().unwrap().clusters.len() >= self.batch {
                batches.push(Encoded {
                    first: GuestCluster(to_u64(number)),
                    clusters: Vec::new(),
                    bytes: Vec::new(),
                    streams: Vec::new(),
                    read: 0,
                    unreadable: Vec::new(),
                });
                is_behind_hole = false;
            }
            let batch = batches.last_mut().unwrap();
            batch.clusters.push(match *cluster {
                Cluster::Hole | Cluster::Zeros => Encoding::Zeros,
                Cluster::Plain => {
                    batch.bytes.resize(batch.clusters.len() * self.cluster_size(), 0);
                    batch.bytes.extend(self.plain(number));
                    Encoding::Plain { sum: self.sum(7) }
                }
                Cluster::Stream { id, length } => {
                    batch.streams.extend(Self::stream(id, length));
                    let (sum, length) = (self.sum(id.min(2).into()), to_usize(length));
                    Encoding::Compressed { sum, length }
                }
            });
        }
        batches
    }

    /// Makes the image.
    fn image(&self) -> (Written, Vec<u8>) {
        let design = self.design();
        let front = design.room.tables() << self.bits;
        let mut writer = AscendingImage {
            image: MemoryImage::default(),
            front,
            written: front,
            is_complete: false,
        };
        let mut layout = Layout::new(design, &mut writer).sharing(self.dedupe);
        for batch in self.batches() {
            layout.place(&batch).unwrap();
        }
        let map = self.map();
        let record = Record {
            map: &map,
            unreadable: &[],
            sector_size: None,
            compat: self.compat,
            provenance: None,
            base: None,
            uuid: None,
        };
        let written = layout.finish(&record).unwrap();
        assert!(written.image_size <= design.image_size(), "larger than was said");
        assert_eq!(written.image_size, to_u64(writer.image.bytes.len()));
        (written, writer.image.bytes)
    }

    /// Makes the image and holds it to everything.
    fn holds(&self) -> Written {
        let (written, bytes) = self.image();
        let mut image = Read::new(&bytes, self);
        let mut extents = BTreeMap::new();
        let mut plain = Vec::new();
        for (number, cluster) in self.clusters.iter().enumerate() {
            let entry = image.entry(number);
            match *cluster {
                Cluster::Hole => assert_eq!(entry, 0, "hole {number}"),
                Cluster::Zeros => assert_eq!(entry, u64::from(self.compat == Compat::V1_1)),
                Cluster::Plain => {
                    let at = entry & !(1 << 63);
                    assert!(entry != at, "not copied");
                    assert_eq!(image.bytes_at(at, 1 << self.bits), self.plain(number));
                    image.refer(at, 1 << self.bits);
                    plain.push(at >> self.bits);
                }
                Cluster::Stream { id, length } => {
                    let (at, sectors) = self.stream_of(entry);
                    assert_eq!((at + length - 1) / 512 - at / 512, sectors, "sectors of {number}");
                    assert_eq!(image.bytes_at(at, length), Self::stream(id, length));
                    image.refer(at, length);
                    let before = extents.insert(at, length);
                    assert!(before.is_none() || self.dedupe.is_some(), "shared unasked");
                    assert!(before.is_none_or(|before| before == length), "shares a part");
                }
            }
        }
        let mut end = 0;
        for (at, length) in &extents {
            assert!(end <= *at, "streams overlap at {at:#x}");
            end = at + length;
        }
        image.counts_are_references(&plain);
        self.assert_counted(&written, &extents);
        written
    }

    fn stream_of(&self, entry: u64) -> (u64, u64) {
        assert_eq!(entry >> 62, 1, "compressed, and not copied");
        let (entry, sectors_from) = (entry & !(1 << 62), 70 - self.bits);
        (entry & ((1 << sectors_from) - 1), entry >> sectors_from)
    }

    fn assert_counted(&self, written: &Written, extents: &BTreeMap<u64, u64>) {
        let (mut plain, mut zeros, mut streams, mut bytes) = (0, 0, 0, 0);
        for cluster in &self.clusters {
            match cluster {
                Cluster::Hole => {}
                Cluster::Zeros => zeros += 1,
                Cluster::Plain => plain += 1,
                Cluster::Stream { length, .. } => (streams, bytes) = (streams + 1, bytes + length),
            }
        }
        let expected = Written {
            image_size: written.image_size,
            data_clusters: plain + streams,
            compressed_clusters: streams,
            stream_bytes: extents.values().sum(),
            shared_clusters: streams - to_u64(extents.len()),
            shared_bytes: bytes - extents.values().sum::<u64>(),
            zero_clusters: zeros,
            unchanged_clusters: 0,
            disk: written.disk,
        };
        assert_eq!(*written, expected);
    }
}

/// An image as it is read, with the references that were found.
struct Read<'a> {
    bytes: &'a [u8],
    bits: u32,
    refcounts: Vec<u16>,
    references: Vec<u16>,
}

impl<'a> Read<'a> {
    /// With what there is of an image besides data.
    fn new(bytes: &'a [u8], case: &Case) -> Self {
        let (room, bits) = (case.design().room, case.bits);
        let mut image = Self {
            bytes,
            bits,
            refcounts: Vec::new(),
            references: vec![0; bytes.len() >> bits],
        };
        let table = (1 + room.l1) << bits;
        let entries = (0..room.refcount_table << bits >> 3).map(|index| image.u64_at(table + index * 8));
        let blocks: Vec<_> = entries.take_while(|block| *block != 0).collect();
        for block in &blocks {
            let (counts, _) = image.bytes_at(*block, 1 << bits).as_chunks::<2>();
            image
                .refcounts
                .extend(counts.iter().map(|count| u16::from_be_bytes(*count)));
        }
        image.refer(0, room.tables() << bits);
        for block in blocks {
            image.refer(block, 1 << bits);
        }
        for index in 0..case.geometry().l1_entries() {
            let entry = image.u64_at((1 << bits) + index * 8);
            if entry != 0 {
                assert_eq!(entry >> 63, 1, "L1 entry {index} is not copied");
                image.refer(entry & !(1 << 63), 1 << bits);
            }
        }
        image
    }

    fn bytes_at(&self, at: u64, length: u64) -> &'a [u8] {
        &self.bytes[to_usize(at)..to_usize(at + length)]
    }

    fn u64_at(&self, at: u64) -> u64 {
        u64::from_be_bytes(self.bytes_at(at, 8).try_into().unwrap())
    }

    /// The L2 entry of a cluster.
    fn entry(&self, cluster: usize) -> u64 {
        let entries = self.bits - 3;
        let (table, index) = (cluster >> entries, cluster & ((1 << entries) - 1));
        match self.u64_at((1 << self.bits) + to_u64(table) * 8) & !(1 << 63) {
            0 => 0,
            table => self.u64_at(table + to_u64(index) * 8),
        }
    }

    fn refer(&mut self, at: u64, length: u64) {
        for cluster in at >> self.bits..=(at + length - 1) >> self.bits {
            self.references[to_usize(cluster)] += 1;
        }
    }

    /// Every cluster up to the last that is referred to is, no cluster is too often, and `plain` have one alone.
    fn counts_are_references(&self, plain: &[u64]) {
        let end = self.references.iter().rposition(|count| *count > 0).unwrap() + 1;
        let (used, behind) = self.refcounts.split_at(end);
        assert_eq!(used, &self.references[..end]);
        assert!(behind.iter().all(|count| *count == 0));
        assert!(used.iter().all(|count| (1..=1023).contains(count)), "{used:?}");
        assert!(plain.iter().all(|cluster| used[to_usize(*cluster)] == 1));
    }
}

fn clusters(bits: u32) -> impl Strategy<Value = Vec<Cluster>> {
    let longest = longest(1 << bits);
    let length = prop_oneof![Just(1), Just(longest), 1..=40_u64, 1..=longest];
    let stream = (0..4_u8, length).prop_map(|(id, length)| Cluster::Stream { id, length });
    let cluster = prop_oneof![
        1 => Just(Cluster::Hole),
        1 => Just(Cluster::Zeros),
        3 => Just(Cluster::Plain),
        6 => stream,
    ];
    let count = prop_oneof![6 => 1..4_usize, 3 => 4..90_usize, 1 => 900..1300_usize];
    let runs = vec((cluster, count), 1..24);
    runs.prop_map(|runs| {
        let runs = runs
            .into_iter()
            .map(|(cluster, count)| std::iter::repeat_n(cluster, count));
        runs.flatten().collect()
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let compat = prop_oneof![Just(Compat::V0_10), Just(Compat::V1_1)];
    let dedupe = prop_oneof![Just(None), Just(Some(0)), Just(Some(1 << 20))];
    let disk = (9..=12_u32).prop_flat_map(|bits| (Just(bits), clusters(bits)));
    (disk, compat, any::<bool>(), dedupe, 1..200_usize, 1..6_u64).prop_map(
        |((bits, clusters), compat, checksums, dedupe, batch, tables)| Case {
            bits,
            clusters,
            compat,
            checksums,
            dedupe,
            batch,
            tables,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_mixture_of_clusters_becomes_an_image_without_fault(case in cases()) {
        case.holds();
    }
}

/// A case with large clusters, all of which come together.
fn case(bits: u32, clusters: Vec<Cluster>, dedupe: Option<u64>) -> Case {
    Case {
        bits,
        clusters,
        compat: Compat::V1_1,
        checksums: true,
        dedupe,
        batch: 64,
        tables: 99,
    }
}

#[test]
fn a_cluster_of_the_image_takes_1023_streams_and_no_more() {
    let tiny = |id: u8| Cluster::Stream { id, length: 20 };
    let clusters: Vec<_> = (0..1500).flat_map(|_| [tiny(0), tiny(1)]).collect();
    let image_size = case(21, clusters.clone(), None).holds().image_size;
    // Header, L1 table, refcount table, streams, L2 table, refcount block, checksums.
    assert_eq!(image_size >> 21, 3 + 3 + 1 + 1 + 1);

    let written = case(21, clusters, Some(1 << 20)).holds();
    // Both have a new stream in each of the three clusters.
    assert!(written.shared_clusters >= 3000 - 2 * 3, "{written:?}");
}

#[test]
fn clusters_that_wait_are_let_go_before_there_are_too_many() {
    let stream = Cluster::Stream { id: 1, length: 9 };
    let clusters = [vec![stream], vec![Cluster::Plain; 200], vec![stream; 2]].concat();
    let written = case(16, clusters, None).holds();
    // The first stream has a cluster of its own, the others share one.
    assert_eq!(written.image_size >> 16, 3 + 1 + 200 + 1 + 1 + 1 + 1);
}
