//! How a disk reads such an image.

use std::ops::Range;

use super::TwoLevel;
use super::walk::Cursor;
use crate::error::Result;
use crate::formats::decompress::Decoder;
use crate::formats::layer::Layer;
use crate::formats::qcow2::structures::header::Compression;
use crate::formats::qcow2::structures::mapping::Stream;
use crate::formats::{HostFile, HostRun, Remark};
use crate::units::{GuestOffset, HostOffset};

impl Layer for TwoLevel {
    fn file(&self) -> &HostFile {
        &self.file
    }

    fn size(&self) -> u64 {
        self.shape.size
    }

    fn cluster_size(&self) -> u64 {
        self.shape.cluster_size
    }

    fn table_reach(&self) -> u64 {
        self.shape.reach()
    }

    fn run_at(&self, at: GuestOffset, limit: u64) -> Result<HostRun> {
        self.spare.with(|hand| {
            let mut cursor = Cursor::new(self, hand);
            (cursor.run_at(at, limit), cursor.into_hand())
        })
    }

    fn read(&self, host: HostOffset, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        match &self.cipher {
            None => self.file.read_exact(buf, host),
            Some(cipher) => cipher.read(host, at, buf, |host, buf| self.file.read_exact(buf, host)),
        }
    }

    fn decode(
        &self,
        decoder: &mut Decoder,
        stream: Stream,
        guest: Range<u64>,
        cluster: &mut [u8],
    ) -> Result<()> {
        decoder.read(&self.file, stream, Compression::Zlib, guest, cluster)
    }

    fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }

    fn remarks(&self) -> Vec<Remark> {
        self.remark.into_iter().collect()
    }
}
