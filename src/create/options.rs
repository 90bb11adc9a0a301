//! How an image is to be made.

use std::num::NonZeroUsize;

use crate::allocation::Scan;
use crate::error::Invalid;
use crate::format::geometry::ClusterSize;
use crate::format::header::{Compat, Compression};
use crate::pipeline::compress::Codec;
use crate::sink::Cleanup;
use crate::source::Part;
use crate::source::rescue::OnReadError;

/// How an image is made.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, set by name")]
pub struct Options {
    /// The cluster size of the image.
    pub cluster_size: ClusterSize,
    /// The version of the format.
    pub compat: Compat,
    /// How clusters are compressed, if they are.
    pub compression: Option<Codec>,
    /// How many bytes of memory remember compressed clusters, so that equal ones are stored once; none if every
    /// cluster is to have a stream of its own.
    pub dedupe: Option<u64>,
    /// Whether to read the source twice, for a stream that is compressed, or in which zeros take no room: the same bytes
    /// that would be in a file. Without effect on files.
    pub two_pass: bool,
    /// How to find out what is in use.
    pub scan: Scan,
    /// Which part of the source to image.
    pub part: Part,
    /// Whether to image a source that is in use.
    pub force: bool,
    /// What to do where the source cannot be read.
    pub on_read_error: OnReadError,
    /// Whether to write a checksum table.
    pub checksums: bool,
    /// Whether to bring the image to stable storage before it gets its name.
    pub sync: bool,
    /// Whether to leave an existing image alone.
    pub no_clobber: bool,
    /// How many workers read, hash and compress. If not given, one less than there are processors and at most 8; with
    /// compression as many as there are processors and at most 32.
    pub threads: Option<NonZeroUsize>,
    /// What a program that is told to die must remove first.
    pub cleanup: Cleanup,
}

impl Options {
    /// Refuses what no image can be.
    pub(super) fn refuse_contradictions(&self) -> Result<(), Invalid> {
        match self.compression.map(Codec::compression) {
            Some(Compression::Zstd) if self.compat == Compat::V0_10 => Err(Invalid::ZstdInVersion2),
            None if self.dedupe.is_some() => Err(Invalid::SharedUncompressed),
            Some(_) | None => Ok(()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cluster_size: ClusterSize::DEFAULT,
            compat: Compat::default(),
            compression: None,
            dedupe: None,
            two_pass: false,
            scan: Scan::default(),
            part: Part::default(),
            force: false,
            on_read_error: OnReadError::default(),
            checksums: true,
            sync: true,
            no_clobber: false,
            threads: None,
            cleanup: Cleanup::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_image_can_be_is_refused() {
        let refused = |compat, compression, dedupe| {
            let options = Options {
                compat,
                compression,
                dedupe,
                ..Options::default()
            };
            options.refuse_contradictions().is_err()
        };
        assert!(refused(Compat::V0_10, Some(Codec::ZSTD), None));
        assert!(!refused(Compat::V0_10, Some(Codec::ZLIB), Some(1)));
        assert!(!refused(Compat::V1_1, Some(Codec::ZSTD), Some(1)));
        assert!(refused(Compat::V1_1, None, Some(1)));
        assert!(!refused(Compat::V0_10, None, None));
    }
}
