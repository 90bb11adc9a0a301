//! What lies where: every table and cluster that an image speaks of, held against all others.
//!
//! Without refcounts, what is used twice can only be found by having all that is used in the order of the file. There
//! may be more than fits in memory: then the tables are read several times, each time for the next part of the file.

use std::ops::Range;

use super::TwoLevel;
use super::entries::Reader;
use super::examiner::{Examiner, Extent, Found};
use super::reference::{Reference, ReferenceKind};
use super::sweep::Sweep;
use super::walk::EntryAt;
use crate::error::{Corrupt, Result};
use crate::formats::qcow2::structures::header::TableAt;
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::smallest::Smallest;
use crate::units::{Exact, HostOffset, claimed_end, length};

/// How many references are kept in memory at most: 48 MiB of them.
const ROOM: usize = 2 << 20;

/// How many tables that lie where others do are kept in mind. With more, nothing but tables is looked at.
const MAX_DOUBLE: usize = 1 << 18;

/// Which tables lie, at least in part, where others do: numbers, ascending.
struct Double(Vec<u64>);

impl TwoLevel {
    /// Looks at all tables, and tells what of them cannot be, what lies in one place with something else, and which
    /// clusters of the file nothing uses, if that can be told.
    ///
    /// The tables are read once for every 1.5 million clusters at least. No table is read that lies where another
    /// does, so that no more is read than there is.
    ///
    /// # Errors
    ///
    /// - [`Error::Io`](crate::Error::Io) if they cannot be read.
    /// - Those of `examiner`.
    pub(crate) fn examine(&self, examiner: &mut dyn Examiner) -> Result<Extent> {
        self.examine_within(ROOM, examiner)
    }

    fn examine_within(&self, room: usize, examiner: &mut dyn Examiner) -> Result<Extent> {
        let mut sweep = Sweep::new(self);
        let (tables, Some(double)) = self.double_tables(room, examiner)? else {
            return Ok(sweep.extent());
        };
        // No two of them lie in one place of the file.
        examiner.begin(tables.times(self.shape.l2_length()));
        let mut references = Smallest::new(room);
        self.refer(&double, &mut references, Some(examiner))?;
        loop {
            for reference in references.sorted() {
                sweep.go_to(*reference, examiner)?;
            }
            if !references.go_on() {
                break;
            }
            self.refer(&double, &mut references, None)?;
        }
        sweep.finish(examiner)
    }

    /// Counts the tables of the second level, and finds those that lie where others do, if they are not too many. Of
    /// two, that one is left that begins first.
    fn double_tables(&self, room: usize, examiner: &mut dyn Examiner) -> Result<(u64, Option<Double>)> {
        let mut references = Smallest::new(room);
        let (mut tables, mut double) = (0_u64, Some(Vec::new()));
        self.each_table(|index, table| {
            match table {
                Err(fault) => examiner.found(Found::Table(fault))?,
                Ok(table) => references.put(self.table_reference(index, table)),
            }
            Ok(())
        })?;
        let mut last: Option<Reference> = None;
        loop {
            for reference in references.sorted() {
                let Some(other) = last.filter(|last| reference.start < last.end()) else {
                    last = Some(*reference);
                    tables.increase(1);
                    continue;
                };
                examiner.found(Found::TableInTable(self.overlap(*reference, other)))?;
                if double.as_ref().is_some_and(|double| double.len() >= MAX_DOUBLE) {
                    double = None;
                }
                if let Some(double) = &mut double {
                    double.push(reference.of);
                }
            }
            if !references.go_on() {
                break;
            }
            self.each_table(|index, table| {
                if let Ok(table) = table {
                    references.put(self.table_reference(index, table));
                }
                Ok(())
            })?;
        }
        let double = double.map(|mut double| {
            double.sort_unstable();
            Double(double)
        });
        Ok((tables, double))
    }

    /// Puts in all that takes room. The examiner is told of every cluster.
    fn refer(
        &self,
        double: &Double,
        references: &mut Smallest<Reference>,
        mut examiner: Option<&mut dyn Examiner>,
    ) -> Result<()> {
        let l1 = self.shape.l1_bytes();
        references.put(Reference::new(
            ReferenceKind::L1,
            HostOffset(l1.start),
            length(&l1),
            0,
        ));
        let mut reader = Reader::default();
        self.each_table(|index, table| {
            // What cannot be was told before.
            let Ok(table) = table else { return Ok(()) };
            references.put(self.table_reference(index, table));
            if double.0.binary_search(&index).is_ok() {
                return Ok(());
            }
            self.each_cluster(&mut reader, index, table, |start, cluster| {
                if let Ok(mapping) = &cluster
                    && let Some(reference) = self.cluster_reference(start, *mapping)
                {
                    references.put(reference);
                }
                match (&mut examiner, cluster) {
                    (None, _) => Ok(()),
                    (Some(examiner), Err(fault)) => examiner.found(Found::Cluster(fault)),
                    (Some(examiner), Ok(mapping)) => examiner.cluster(mapping, self.guest(start)),
                }
            })?;
            if let Some(examiner) = &mut examiner {
                examiner.advance(self.shape.l2_length());
            }
            Ok(())
        })
    }

    /// Calls `each` with the number of every table of the second level, and where it is.
    fn each_table(&self, mut each: impl FnMut(u64, Result<HostOffset, Corrupt>) -> Result<()>) -> Result<()> {
        Reader::default().each(&self.file, self.shape.l1, |index, entry| {
            match self.table_of(index, self.entries.number(entry)).transpose() {
                None => Ok(()),
                Some(table) => each(index, table),
            }
        })
    }

    /// Calls `each` with the first byte of the disk in every cluster that a table has, and where that is.
    fn each_cluster(
        &self,
        reader: &mut Reader,
        index: u64,
        table: HostOffset,
        mut each: impl FnMut(u64, Result<Mapping, Corrupt>) -> Result<()>,
    ) -> Result<()> {
        let (at, entries) = (table, self.shape.l2_entries);
        reader.each(&self.file, TableAt { at, entries }, |number, entry| {
            let start = self.start_of(index, number);
            let place = EntryAt { table, number, start };
            match self.cluster_of(place, self.entries.number(entry)) {
                Ok(Mapping::Unallocated) => Ok(()),
                cluster => each(start, cluster),
            }
        })
    }

    /// The bytes of the disk in a cluster, none behind its end, where an entry may claim to be.
    fn guest(&self, start: u64) -> Range<u64> {
        let size = self.shape.size;
        start.min(size)..claimed_end(start, self.shape.cluster_size).min(size)
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a sum that overflows fails the test"
)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::formats::legacy::LegacyImage;
    use crate::formats::{Format, Single};

    /// A file that is gone at the end.
    struct Temporary(PathBuf);

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// An image of QCOW version 1 in the first pages of a file: clusters of 512 bytes, 64 entries in a table.
    fn qcow(tables: &[Vec<u64>], l1: &[u64]) -> Vec<u8> {
        let mut bytes = b"QFI\xfb\0\0\0\x01".to_vec();
        bytes.extend([0; 16]);
        bytes.extend(u64::try_from(l1.len() * 64 * 512).unwrap().to_be_bytes());
        bytes.extend([9, 6, 0, 0, 0, 0, 0, 0]);
        bytes.extend(48_u64.to_be_bytes());
        bytes.extend(l1.iter().flat_map(|entry| entry.to_be_bytes()));
        for table in tables {
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            bytes.extend(table.iter().flat_map(|entry| entry.to_be_bytes()));
        }
        bytes.resize(64 << 10, 0);
        bytes
    }

    fn open(name: &str, bytes: &[u8]) -> (Temporary, LegacyImage) {
        let name = format!("mkqcow2-references-{name}-{}", std::process::id());
        let file = Temporary(std::env::temp_dir().join(name));
        fs::write(&file.0, bytes).unwrap();
        let image = legacy(&file.0);
        (file, image)
    }

    fn legacy(path: &Path) -> LegacyImage {
        match Single::open(path, Some(Format::Qcow)).unwrap() {
            Single::Legacy(image) => *image,
            Single::Qcow2(_) => unreachable!(),
        }
    }

    #[derive(Debug, Default)]
    struct Told {
        found: Vec<String>,
        clusters: Vec<(Mapping, Range<u64>)>,
    }

    impl Examiner for Told {
        fn found(&mut self, found: Found) -> Result<()> {
            self.found.push(format!("{found:?}"));
            Ok(())
        }

        fn cluster(&mut self, mapping: Mapping, guest: Range<u64>) -> Result<()> {
            self.clusters.push((mapping, guest));
            Ok(())
        }
    }

    fn told(image: &LegacyImage, room: usize) -> (Told, Extent) {
        let mut told = Told::default();
        let extent = image.tables.examine_within(room, &mut told).unwrap();
        (told, extent)
    }

    /// Where entries lead: places that are taken, free, or no place at all.
    fn entry() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => Just(0_u64),
            4 => (8_u64..120).prop_map(|cluster| cluster * 512),
            2 => 0x1000_u64..0xff00,
            2 => (0x1000_u64..0xff00, 1_u64..511).prop_map(|(at, length)| 1 << 63 | length << 54 | at),
            1 => any::<u64>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_is_what_pairs_tell_however_little_fits_into_memory(
            tables in proptest::collection::vec(proptest::collection::vec(entry(), 64), 3),
            l1 in proptest::collection::vec(prop_oneof![Just(512_u64), Just(1024), Just(1536), Just(700), entry()], 5),
        ) {
            let (_file, image) = open("pairs", &qcow(&tables, &l1));
            let (all, extent) = told(&image, 1000);
            for room in [4, 5, 17, 100] {
                let (some, same) = told(&image, room);
                prop_assert_eq!(&some.found, &all.found, "room for {}", room);
                prop_assert_eq!(&some.clusters, &all.clusters);
                prop_assert_eq!(same, extent);
            }
            // Whatever lies in one place with something in front of it, each to be told of once.
            let places = all.clusters.iter().filter_map(|(mapping, _)| match mapping {
                Mapping::Data(at) => Some((at.0, at.0 + 512)),
                Mapping::Compressed(stream) => Some((stream.at.0, stream.at.0 + stream.length)),
                Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => None,
            });
            let mut places: Vec<_> = places.collect();
            places.sort_unstable();
            let double = (0..places.len()).filter(|number| {
                places[..*number].iter().any(|before| before.1 > places[*number].0)
            });
            let told = all.found.iter().filter(|found| found.starts_with("ClusterInCluster"));
            let in_table = all.found.iter().filter(|found| found.starts_with("ClusterInTable"));
            let (double, told, in_table) = (double.count(), told.count(), in_table.count());
            prop_assert!(told <= double && double <= told + in_table, "{} {} {}", told, double, in_table);
        }
    }

    #[test]
    fn a_table_is_read_once_however_often_it_is_named() {
        let table: Vec<u64> = (0..64).map(|number| 0x8000 + number * 512).collect();
        let (_file, image) = open("once", &qcow(&[table], &[1024; 100]));
        let (told, extent) = told(&image, 1000);
        assert_eq!(told.clusters.len(), 64);
        assert_eq!(told.found.len(), 99);
        assert!(
            told.found.iter().all(|found| found.starts_with("TableInTable")),
            "{told:?}"
        );
        assert_eq!(extent.end.0, 0x10000);
    }
}
