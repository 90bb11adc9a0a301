//! The record behind the checksum table, and the footer.

use std::ops::Range;

use crc32fast::Hasher;
use zerocopy::IntoBytes;

use super::checksums::Table;
use super::pieces::PIECE;
use crate::clusters::free_runs;
use crate::error::Result;
use crate::formats::qcow2::structures::extension::OursAt;
use crate::formats::qcow2::structures::geometry::Geometry;
use crate::formats::qcow2::structures::header::Compat;
use crate::formats::qcow2::structures::identity::{BaseIdentity, Identity};
use crate::formats::qcow2::structures::provenance::Provenance;
use crate::formats::qcow2::structures::record::{
    BASE, FREE, IDENTITY, IMAGE_VERSION, PROVENANCE, RawFooter, RawRecord, RawRuns, RawSection, SECTOR_SIZE,
    UNREADABLE, append_number, file_end, gap_and_length, measure, record_length,
};
use crate::output::WriteAt;
use crate::units::{Exact, HostOffset, to_u64, to_usize};
use crate::uuid::Uuid;
use crate::volumes::AllocationMap;

/// What an image records of its source.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What is free.
    pub map: &'a AllocationMap,
    /// What could not be read, in bytes of the virtual disk: ascending and apart.
    pub unreadable: &'a [Range<u64>],
    /// The size of a sector of the source in bytes, if it is known.
    pub sector_size: Option<u32>,
    /// The version of the image.
    pub compat: Compat,
    /// Where the image comes from, if it is to tell.
    pub provenance: Option<&'a Provenance>,
    /// The backing file that it stands on, if it does.
    pub base: Option<BaseIdentity>,
    /// Its UUID, if it is not to be a new one.
    pub uuid: Option<Uuid>,
}

/// A section, ready to be written.
struct Section<R> {
    kind: u32,
    head: RawRuns,
    runs: R,
    /// The length of its data in bytes.
    length: u64,
}

impl<R: Iterator<Item = Range<u64>> + Clone> Section<R> {
    fn new(kind: u32, runs: R) -> Self {
        let (head, length) = measure(runs.clone());
        Self {
            kind,
            head,
            runs,
            length: length.plus(to_u64(size_of::<RawRuns>())),
        }
    }

    fn write(self, out: &mut Out<'_, impl WriteAt>) -> Result<()> {
        out.begin(self.kind, self.length);
        out.bytes.extend(self.head.as_bytes());
        let mut end = 0;
        for run in self.runs {
            let (gap, length) = gap_and_length(end, &run);
            append_number(&mut out.bytes, gap);
            append_number(&mut out.bytes, length);
            end = run.end;
            if out.bytes.len() >= to_usize(PIECE) {
                out.flush()?;
            }
        }
        Ok(())
    }
}

/// The length in bytes of the record of a source that could be read.
pub(crate) fn length(
    map: &AllocationMap,
    geometry: Geometry,
    sector_size: Option<u32>,
    provenance: Option<&Provenance>,
    base: Option<BaseIdentity>,
    has_digests: bool,
) -> u64 {
    let record = Record {
        map,
        unreadable: &[],
        sector_size,
        // All are as long.
        compat: Compat::default(),
        provenance,
        base,
        uuid: None,
    };
    record_length(record.lengths(geometry, has_digests))
}

impl<'a> Record<'a> {
    fn free(&self, geometry: Geometry) -> Section<impl Iterator<Item = Range<u64>> + Clone + 'a> {
        Section::new(FREE, free_runs(self.map, geometry))
    }

    fn unreadable(&self) -> Section<impl Iterator<Item = Range<u64>> + Clone + 'a> {
        Section::new(UNREADABLE, self.unreadable.iter().cloned())
    }

    /// The lengths of all sections.
    fn lengths(&self, geometry: Geometry, has_digests: bool) -> impl Iterator<Item = u64> {
        let unreadable = (!self.unreadable.is_empty()).then(|| self.unreadable().length);
        let sector_size = self.sector_size.map(|size| to_u64(size.as_bytes().len()));
        let version = Some(to_u64(size_of::<u32>()));
        let provenance = self
            .provenance
            .map(|provenance| to_u64(provenance.to_bytes().len()));
        let free = Some(self.free(geometry).length);
        let base = self.base.map(|base| to_u64(base.to_bytes().len()));
        let identity = Some(Identity::length(has_digests));
        [free, unreadable, sector_size, version, provenance, base, identity]
            .into_iter()
            .flatten()
    }

    /// Writes the record behind a checksum table, then the footer. Returns where the file ends.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub(super) fn write(
        &self,
        writer: &mut impl WriteAt,
        geometry: Geometry,
        at: OursAt,
        table: &Table,
    ) -> Result<u64> {
        let start = at.record.unwrap_or(at.checksums.offset + at.checksums.length);
        let sections = record_length(self.lengths(geometry, table.disk.is_some())).minus(record_length([]));
        let mut out = Out {
            writer,
            host: start,
            bytes: RawRecord::new(geometry, sections).as_bytes().to_vec(),
            hasher: Hasher::new(),
            strong: blake3::Hasher::new(),
        };
        out.strong.update(&table.hash);
        self.free(geometry).write(&mut out)?;
        if !self.unreadable.is_empty() {
            self.unreadable().write(&mut out)?;
        }
        if let Some(size) = self.sector_size {
            let bytes = size.to_be_bytes();
            out.begin(SECTOR_SIZE, to_u64(bytes.len()));
            out.bytes.extend(bytes);
        }
        let version = self.compat.version().to_be_bytes();
        out.begin(IMAGE_VERSION, to_u64(version.len()));
        out.bytes.extend(version);
        if let Some(provenance) = self.provenance {
            let bytes = provenance.to_bytes();
            out.begin(PROVENANCE, to_u64(bytes.len()));
            out.bytes.extend(bytes);
        }
        if let Some(base) = self.base {
            let bytes = base.to_bytes();
            out.begin(BASE, to_u64(bytes.len()));
            out.bytes.extend(bytes);
        }
        out.flush()?;
        let computed = Uuid::of(out.strong.finalize().as_bytes());
        let identity = Identity {
            uuid: self.uuid.unwrap_or(computed),
            disk: table.disk,
        };
        let bytes = identity.to_bytes();
        out.begin(IDENTITY, to_u64(bytes.len()));
        out.bytes.extend(bytes);
        out.flush()?;
        let crc = out.hasher.clone().finalize().to_be_bytes();
        out.bytes.extend(crc);
        out.flush()?;
        let end = file_end(out.host.0, geometry.cluster_size());
        let footer = RawFooter::new(at);
        let footer_at = end.minus(to_u64(size_of::<RawFooter>()));
        writer.write_at(footer.as_bytes(), HostOffset(footer_at))?;
        Ok(end)
    }
}

/// What is written piece by piece.
struct Out<'s, W> {
    writer: &'s mut W,
    /// Where the next piece goes.
    host: HostOffset,
    /// What is still to be written.
    bytes: Vec<u8>,
    /// Of what was written.
    hasher: Hasher,
    /// Of what the UUID is made of.
    strong: blake3::Hasher,
}

impl<W: WriteAt> Out<'_, W> {
    fn begin(&mut self, kind: u32, length: u64) {
        let head = RawSection {
            kind: kind.into(),
            length: length.into(),
        };
        self.bytes.extend(head.as_bytes());
    }

    fn flush(&mut self) -> Result<()> {
        self.hasher.update(&self.bytes);
        self.strong.update(&self.bytes);
        self.writer.write_at(&self.bytes, self.host)?;
        self.host += to_u64(self.bytes.len());
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::qcow2::structures::extension::ChecksumsAt;
    use crate::formats::qcow2::structures::geometry::ClusterSize;
    use crate::output::MemoryImage;
    use crate::volumes::{MapBuilder, Reason};

    #[test]
    fn a_record_is_as_its_description_says() {
        let geometry = Geometry::new(ClusterSize::MIN, 100 * 512).unwrap();
        let mut map = MapBuilder::all_free(100 * 512);
        // Clusters 1 to 3 and 50: of what is used in part nothing is free.
        map.used(1000..2000, Reason::Data);
        map.used(50 * 512 + 7..50 * 512 + 9, Reason::Data);
        let map = map.build();
        let at = OursAt {
            checksums: ChecksumsAt {
                offset: HostOffset(512),
                length: 77,
            },
            record: Some(HostOffset(600)),
        };
        let mut writer = MemoryImage::default();
        let unreadable = [1024..1536, 1_000_000..1_000_512];
        let provenance = Provenance {
            made: Some(7),
            ..Provenance::default()
        };
        let record = Record {
            map: &map,
            unreadable: &unreadable,
            sector_size: Some(4096),
            compat: Compat::V1_1,
            provenance: Some(&provenance),
            base: None,
            uuid: None,
        };
        let table = Table {
            length: 77,
            hash: [3; 32],
            disk: Some([9; 32]),
        };

        let end = record.write(&mut writer, geometry, at, &table).unwrap();
        writer.set_len(end).unwrap();

        assert_eq!(end, 1024);
        let bytes = &writer.bytes[600..];
        assert_eq!(&bytes[..8], b"mkqrecrd");
        assert_eq!(bytes[8..16], [0, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(bytes[16..24], (100_u64 * 512).to_be_bytes());
        let mut expected = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 16 + 6];
        expected.extend(3_u64.to_be_bytes());
        expected.extend(96_u64.to_be_bytes());
        expected.extend([0, 1, 3, 46, 1, 49]);
        expected.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 16 + 9]);
        expected.extend(2_u64.to_be_bytes());
        expected.extend(1024_u64.to_be_bytes());
        // 1024, 512; 998464, 512.
        expected.extend([0x80, 8, 0x80, 4, 0xc0, 0xf8, 0x3c, 0x80, 4]);
        expected.extend([0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0x10, 0]);
        expected.extend([0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3]);
        expected.extend([0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 10]);
        expected.extend(br#"{"made":7}"#);
        // The UUID is made of all in front of it.
        let head = &bytes[..32];
        let uuid = Uuid::of(
            blake3::Hasher::new()
                .update(&[3; 32])
                .update(head)
                .update(&expected)
                .finalize()
                .as_bytes(),
        );
        expected.extend([0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 48]);
        expected.extend(uuid.0);
        expected.extend([9; 32]);
        assert_eq!(bytes[24..32], to_u64(expected.len()).to_be_bytes());
        assert_eq!(bytes[32..32 + expected.len()], expected);
        let crc_at = 32 + expected.len();
        let crc = crc32fast::hash(&bytes[..crc_at]);
        assert_eq!(bytes[crc_at..crc_at + 4], crc.to_be_bytes());
        assert_eq!(
            to_u64(crc_at) + 4,
            record_length(record.lengths(geometry, true)),
            "the length that was promised"
        );
        let footer = &writer.bytes[1024 - 40..];
        assert_eq!(&footer[..8], b"mkqfootr");
        assert_eq!(footer[8..16], 512_u64.to_be_bytes());
        assert_eq!(footer[16..24], 77_u64.to_be_bytes());
        assert_eq!(footer[24..32], 600_u64.to_be_bytes());
        assert_eq!(footer[32..36], [0, 0, 0, 1]);
        assert_eq!(footer[36..], crc32fast::hash(&footer[..36]).to_be_bytes());
    }
}
