//! One cluster, one stream.

use std::fmt;

use flate2::{Compress, FlushCompress, Status};
use zstd_safe::{CCtx, CParameter};

use super::idle::Idle;
use crate::format::header::Compression;
use crate::units::{SECTOR, to_u64, to_usize};

/// log2 of the window of deflate: QEMU's readers have room for no more. Spec: "Compressed Clusters Descriptor".
const ZLIB_WINDOW_BITS: u8 = 12;

/// How clusters are compressed, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    compression: Compression,
    level: u8,
}

impl Codec {
    /// Zstandard at its default level.
    pub const ZSTD: Self = Self {
        compression: Compression::Zstd,
        level: 3,
    };

    /// Deflate at its default level.
    pub const ZLIB: Self = Self {
        compression: Compression::Zlib,
        level: 6,
    };

    /// The hardest that it can be asked for.
    pub fn hardest(compression: Compression) -> u8 {
        match compression {
            Compression::Zlib => 9,
            Compression::Zstd => 19,
        }
    }

    /// The same with another level, 1 to [`hardest`](Self::hardest).
    pub fn with_level(self, level: u8) -> Option<Self> {
        let is_known = (1..=Self::hardest(self.compression)).contains(&level);
        is_known.then_some(Self { level, ..self })
    }

    /// What reads it.
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// How hard.
    pub fn level(self) -> u8 {
        self.level
    }
}

/// The longest stream in bytes that is worth having instead of its cluster: it saves a sector, or an eighth of
/// the cluster if that is a single sector.
pub fn longest(cluster_size: u64) -> u64 {
    cluster_size.saturating_sub(if cluster_size > SECTOR { SECTOR } else { SECTOR / 8 })
}

/// What a thread needs to compress one cluster after the other.
struct Compressor {
    codec: Codec,
    method: Method,
    /// Room for a stream, however long.
    stream: Vec<u8>,
}

enum Method {
    Zlib(Compress),
    Zstd(CCtx<'static>),
}

impl Method {
    fn new(codec: Codec) -> Self {
        let level = codec.level;
        match codec.compression {
            Compression::Zlib => {
                let level = flate2::Compression::new(level.into());
                Self::Zlib(Compress::new_with_window_bits(level, false, ZLIB_WINDOW_BITS))
            }
            Compression::Zstd => {
                let mut zstd = CCtx::create();
                let set = zstd.set_parameter(CParameter::CompressionLevel(level.into()));
                set.expect("all levels of a codec are levels of Zstandard");
                Self::Zstd(zstd)
            }
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    fn new(codec: Codec) -> Self {
        let method = Method::new(codec);
        let stream = Vec::new();
        Self {
            codec,
            method,
            stream,
        }
    }

    /// The stream of a cluster, if there is one. The stream depends on nothing that was compressed before.
    fn stream_of(&mut self, cluster: &[u8]) -> Option<&[u8]> {
        // Never too short: zlib-rs must not be used again after it ran out of room.
        let room = match self.method {
            Method::Zlib(_) => cluster.len().saturating_add(cluster.len() / 8).saturating_add(64),
            Method::Zstd(_) => zstd_safe::compress_bound(cluster.len()),
        };
        if self.stream.len() < room {
            self.stream.resize(room, 0);
        }
        let length = match &mut self.method {
            Method::Zlib(deflate) => {
                deflate.reset();
                let status = deflate.compress(cluster, &mut self.stream, FlushCompress::Finish);
                let is_whole = matches!(status, Ok(Status::StreamEnd));
                is_whole.then(|| to_usize(deflate.total_out()))
            }
            Method::Zstd(zstd) => zstd.compress2(self.stream.as_mut_slice(), cluster).ok(),
        };
        if length.is_none() {
            // The library failed. The cluster is kept as it is, and what failed is not used again.
            self.method = Method::new(self.codec);
        }
        self.stream.get(..length?)
    }
}

/// Compressors for all workers, each of which is used again and again.
#[derive(Debug)]
pub struct Compressors {
    codec: Codec,
    idle: Idle<Compressor>,
}

impl Compressors {
    /// None are made yet.
    pub fn new(codec: Codec) -> Self {
        let idle = Idle::default();
        Self { codec, idle }
    }

    /// Appends the stream of a cluster to `streams`; returns its length in bytes, or nothing if the cluster should
    /// rather be kept as it is.
    pub fn compress(&self, cluster: &[u8], streams: &mut Vec<u8>) -> Option<usize> {
        let longest = to_usize(longest(to_u64(cluster.len())));
        self.idle.with(
            || Compressor::new(self.codec),
            |compressor| {
                let stream = compressor.stream_of(cluster)?;
                if stream.len() > longest {
                    return None;
                }
                streams.extend_from_slice(stream);
                Some(stream.len())
            },
        )
    }
}
