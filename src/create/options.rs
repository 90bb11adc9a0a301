//! How an image is to be made.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use rayon::ThreadPool;

use crate::disk::rescue::OnReadError;
use crate::error::{Invalid, Result};
use crate::formats::qcow2::structures::digest::SMALLEST_CLUSTER;
use crate::formats::qcow2::structures::geometry::ClusterSize;
use crate::formats::qcow2::structures::header::{Compat, Compression};
use crate::formats::qcow2::structures::provenance::Provenance;
use crate::formats::{Access, Format};
use crate::output::{Cleanup, Place};
use crate::pipeline;
use crate::pipeline::compress::Codec;
use crate::volumes::{Scan, Wanted};

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
    pub dedupe_memory: Option<u64>,
    /// Whether to read the source twice, for a stream that is compressed, or in which zeros take no room: the same bytes
    /// that would be in a file. Without effect on files.
    pub two_pass: bool,
    /// How to find out what is in use.
    pub scan: Scan,
    /// What the source is: raw if that is not given, and refused if it begins like an image.
    pub format: Option<Format>,
    /// If the source is an image: what of it is read, and which other files may be opened for that.
    pub access: Access,
    /// The image that the new one stands on: only what differs is stored.
    pub base: Option<PathBuf>,
    /// Whether to make a full image if that is not fit to stand on.
    pub full_if_unfit: bool,
    /// Which bytes of the source to image.
    pub wanted: Wanted,
    /// Whether to image a source that is in use.
    pub force: bool,
    /// Whether only the plan is wanted: then there is one of a source in use, too, and a run is refused without `force`.
    pub plan_only: bool,
    /// What to do where the source cannot be read.
    pub on_read_error: OnReadError,
    /// Whether to write a checksum table.
    pub checksums: bool,
    /// Whether the checksum table has a digest of each cluster, too; if not given, where clusters are compressed, which
    /// takes far longer, and where there is a base. There are none of clusters of 512 bytes.
    pub digests: Option<bool>,
    /// Where the image comes from, for the record, which is written with the checksum table; none if it is not to tell.
    pub provenance: Option<Provenance>,
    /// Whether to bring the image to stable storage before it gets its name.
    pub sync: bool,
    /// Whether to leave an existing image alone.
    pub no_clobber: bool,
    /// Replace an existing file even if it is no qcow2 image. Without it such a file is refused, unless it is empty.
    pub overwrite: bool,
    /// How many workers read, hash and compress. If not given, one less than there are processors and at most 8; with
    /// compression as many as there are processors and at most 32.
    pub threads: Option<NonZeroUsize>,
    /// What a program that is told to die must remove first.
    pub cleanup: Cleanup,
}

impl Options {
    /// Whether the image gets digests.
    pub(super) fn has_digests(&self) -> bool {
        let is_possible = self.checksums && self.cluster_size.bytes() >= SMALLEST_CLUSTER;
        is_possible
            && self
                .digests
                .unwrap_or(self.compression.is_some() || self.base.is_some())
    }

    /// Refuses what no image can be, and what none can be that is written in order.
    pub(super) fn refuse_contradictions(&self, image: &Place) -> Result<(), Invalid> {
        let is_shared = self.dedupe_memory.is_some();
        let is_stream = *image == Place::Stdout;
        if self.base.is_some() && is_stream && !self.two_pass {
            return Err(Invalid::StdoutIncremental);
        }
        if self.base.is_some() && !self.checksums {
            return Err(Invalid::IncrementalUnchecked);
        }
        match self.compression.map(Codec::compression) {
            Some(Compression::Zstd) if self.compat == Compat::V0_10 => Err(Invalid::ZstdInVersion2),
            None if is_shared => Err(Invalid::SharedUncompressed),
            Some(_) if is_stream && is_shared => Err(Invalid::StdoutShared),
            Some(_) if is_stream && !self.two_pass => Err(Invalid::StdoutCompressed),
            Some(_) | None => Ok(()),
        }
    }

    /// The threads that read, hash and compress. Compression takes longer than writing what it leaves, and so does
    /// hashing where little differs from a base; else writing takes a processor of its own.
    pub(super) fn workers(&self, has_base: bool) -> Result<ThreadPool> {
        if self.compression.is_some() {
            pipeline::compressors(self.threads)
        } else if has_base {
            pipeline::readers(self.threads)
        } else {
            pipeline::workers(self.threads)
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cluster_size: ClusterSize::DEFAULT,
            compat: Compat::default(),
            compression: None,
            dedupe_memory: None,
            two_pass: false,
            scan: Scan::default(),
            format: None,
            access: Access::default(),
            base: None,
            full_if_unfit: false,
            wanted: Wanted::default(),
            force: false,
            plan_only: false,
            on_read_error: OnReadError::default(),
            checksums: true,
            digests: None,
            provenance: None,
            sync: true,
            no_clobber: false,
            overwrite: false,
            threads: None,
            cleanup: Cleanup::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(image: &Place, options: &Options) -> Option<Invalid> {
        options.refuse_contradictions(image).err()
    }

    #[test]
    fn what_no_image_can_be_is_refused() {
        let file = Place::from("image.qcow2");
        let options = |compat, compression, dedupe_memory| Options {
            compat,
            compression,
            dedupe_memory,
            ..Options::default()
        };
        for (options, expected) in [
            (
                options(Compat::V0_10, Some(Codec::ZSTD), None),
                Some(Invalid::ZstdInVersion2),
            ),
            (options(Compat::V0_10, Some(Codec::ZLIB), Some(1)), None),
            (options(Compat::V1_1, Some(Codec::ZSTD), Some(1)), None),
            (
                options(Compat::V1_1, None, Some(1)),
                Some(Invalid::SharedUncompressed),
            ),
            (options(Compat::V0_10, None, None), None),
        ] {
            assert_eq!(refusal(&file, &options), expected, "{options:?}");
        }
    }

    #[test]
    fn what_no_stream_can_be_is_refused() {
        let options = |compression, dedupe_memory, two_pass| Options {
            compression,
            dedupe_memory,
            two_pass,
            ..Options::default()
        };
        let zlib = Some(Codec::ZLIB);
        for (options, expected) in [
            (options(None, None, false), None),
            (options(None, None, true), None),
            (options(zlib, None, true), None),
            (options(zlib, None, false), Some(Invalid::StdoutCompressed)),
            (options(zlib, Some(1), true), Some(Invalid::StdoutShared)),
        ] {
            assert_eq!(refusal(&Place::Stdout, &options), expected, "{options:?}");
        }
    }
}
