//! One cluster, one stream.

use std::fmt;
use std::io;

use flate2::{Compress, FlushCompress, Status};
use zstd_safe::{CCtx, CParameter};

use crate::error::{Action, Error, Result};
use crate::formats::qcow2::structures::header::Compression;
use crate::idle::Idle;
use crate::units::{Exact, SECTOR, to_u64, to_usize};

/// log2 of the window of deflate: strict readers have room for no more, and QEMU writes no larger one.
const ZLIB_WINDOW_BITS: u8 = 12;

/// How clusters are compressed, and at which level.
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

    /// The highest level: the smallest streams, and the longest time.
    pub fn max_level(compression: Compression) -> u8 {
        match compression {
            Compression::Zlib => 9,
            Compression::Zstd => 19,
        }
    }

    /// The same with another level, 1 to [`max_level`](Self::max_level); none if there is no such level.
    pub fn with_level(self, level: u8) -> Option<Self> {
        let is_known = (1..=Self::max_level(self.compression)).contains(&level);
        is_known.then_some(Self { level, ..self })
    }

    /// The compression type of the header.
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// The level: higher ones take longer, and less room.
    pub fn level(self) -> u8 {
        self.level
    }
}

/// The longest stream in bytes that is worth having instead of its cluster: it saves a sector, or an eighth of
/// the cluster if that is a single sector.
pub fn longest(cluster_size: u64) -> u64 {
    cluster_size.minus(if cluster_size > SECTOR { SECTOR } else { SECTOR / 8 })
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
    /// rather be kept as it is. With `doubt`, which the cluster before may have raised, no time is lost on one that
    /// a quick look finds no way to make smaller.
    ///
    /// The stream depends on the cluster alone, and whether there is one on the cluster and `doubt`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no memory for it.
    pub fn compress(&self, cluster: &[u8], doubt: bool, streams: &mut Vec<u8>) -> Result<Option<usize>> {
        let failed = |error| Error::target_io(Action::Compress, error);
        let mut compressor = match self.idle.take() {
            Some(compressor) => compressor,
            None => Compressor::new(self.codec).map_err(failed)?,
        };
        // One that failed is not given back: it must not be used again.
        let stream = compressor.stream_of(cluster, doubt).map_err(failed)?;
        let length = stream.map(|stream| {
            streams.extend_from_slice(stream);
            stream.len()
        });
        self.idle.give(compressor);
        Ok(length)
    }
}

/// What a thread needs to compress one cluster after the other.
struct Compressor {
    method: Method,
    /// The quick look, where trying in vain costs much more.
    probe: Option<Method>,
    /// Room for a stream, however long.
    stream: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    fn new(codec: Codec) -> io::Result<Self> {
        // On random data Zstandard gives up early, at gigabytes a second; its higher levels and deflate do not.
        let is_quick = codec.compression == Compression::Zstd && codec.level <= Codec::ZSTD.level;
        let probe = Codec {
            level: 1,
            ..Codec::ZSTD
        };
        Ok(Self {
            method: Method::new(codec)?,
            probe: if is_quick { None } else { Some(Method::new(probe)?) },
            stream: Vec::new(),
        })
    }

    /// The stream of a cluster, if it is worth having.
    fn stream_of(&mut self, cluster: &[u8], doubt: bool) -> io::Result<Option<&[u8]>> {
        let longest = to_usize(longest(to_u64(cluster.len())));
        if let Some(probe) = self.probe.as_mut().filter(|_| doubt)
            && probe.compress(cluster, &mut self.stream)? > longest
        {
            return Ok(None);
        }
        let length = self.method.compress(cluster, &mut self.stream)?;
        let stream = self.stream.get(..length);
        Ok(stream.filter(|stream| stream.len() <= longest))
    }
}

/// A library and its state.
enum Method {
    Zlib(Compress),
    Zstd(CCtx<'static>),
}

impl Method {
    fn new(codec: Codec) -> io::Result<Self> {
        let level = codec.level;
        Ok(match codec.compression {
            Compression::Zlib => {
                let level = flate2::Compression::new(level.into());
                Self::Zlib(Compress::new_with_window_bits(level, false, ZLIB_WINDOW_BITS))
            }
            Compression::Zstd => {
                let mut zstd = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
                let level = CParameter::CompressionLevel(level.into());
                zstd.set_parameter(level).map_err(zstd_failed)?;
                Self::Zstd(zstd)
            }
        })
    }

    /// Compresses into `stream`, which becomes long enough; returns the length of the stream.
    fn compress(&mut self, cluster: &[u8], stream: &mut Vec<u8>) -> io::Result<usize> {
        // Never too short: zlib-rs must not be used again after it ran out of room.
        let room = match self {
            Self::Zlib(_) => cluster.len().plus(cluster.len() / 8).plus(64),
            Self::Zstd(_) => zstd_safe::compress_bound(cluster.len()),
        };
        if stream.len() < room {
            stream.resize(room, 0);
        }
        match self {
            Self::Zlib(deflate) => {
                deflate.reset();
                match deflate.compress(cluster, stream, FlushCompress::Finish)? {
                    Status::StreamEnd => Ok(to_usize(deflate.total_out())),
                    Status::Ok | Status::BufError => Err(io::Error::other("deflate did not come to an end")),
                }
            }
            Self::Zstd(zstd) => zstd
                .compress2(stream.as_mut_slice(), cluster)
                .map_err(zstd_failed),
        }
    }
}

fn zstd_failed(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codecs() -> impl Iterator<Item = Codec> {
        let of = |codec: Codec| {
            let levels = 1..=Codec::max_level(codec.compression());
            levels.filter_map(move |level| codec.with_level(level))
        };
        of(Codec::ZSTD).chain(of(Codec::ZLIB))
    }

    fn text() -> Vec<u8> {
        (0..2000_u32)
            .flat_map(|line| format!("line {}\n", line * line).into_bytes())
            .take(1 << 14)
            .collect()
    }

    fn random() -> Vec<u8> {
        let rolls = std::iter::successors(Some(1_u64), |x| {
            let x = x ^ x << 13;
            let x = x ^ x >> 7;
            Some(x ^ x << 17)
        });
        rolls.flat_map(u64::to_le_bytes).take(1 << 14).collect()
    }

    // A zlib-rs that ran out of room must not be used again.
    #[test]
    fn there_is_room_for_the_longest_stream() {
        for codec in codecs() {
            let mut method = Method::new(codec).unwrap();
            for size in [512, 4096, 1 << 14, 2 << 20] {
                // The highest levels take long for what is large.
                let cluster: Vec<_> = random().into_iter().cycle().take(size).collect();
                if size > 1 << 14 && codec.level > 9 {
                    continue;
                }
                for _ in 0..2 {
                    let length = method.compress(&cluster, &mut Vec::new()).unwrap();
                    // What is far away is out of the window of deflate.
                    let is_hard = size <= 1 << 14 || codec.compression == Compression::Zlib;
                    assert_eq!(length > size, is_hard, "{codec:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_stream_depends_on_its_cluster_alone() {
        for codec in codecs() {
            let used = Compressors::new(codec);
            for (cluster, doubt) in [
                (text(), false),
                (random(), false),
                (text(), true),
                (random(), true),
                (vec![7; 512], true),
                (text(), false),
            ] {
                let (mut expected, mut found) = (Vec::new(), Vec::new());
                let length = Compressors::new(codec)
                    .compress(&cluster, false, &mut expected)
                    .unwrap();
                assert_eq!(
                    used.compress(&cluster, doubt, &mut found).unwrap(),
                    length,
                    "{codec:?}"
                );
                assert!(found == expected, "{codec:?}");
                assert_eq!(length.is_none(), cluster == random(), "{codec:?}");
            }
        }
    }

    #[test]
    fn a_stream_has_to_save_a_sector() {
        assert_eq!([512, 1024, 65536].map(longest), [448, 512, 65024]);
        for codec in codecs() {
            let mut streams = vec![1, 2, 3];
            let mut half = random();
            half.truncate(4096 - 1100);
            half.resize(4096, 0);
            let length = Compressors::new(codec)
                .compress(&half, true, &mut streams)
                .unwrap();
            assert!(length.is_some_and(|length| length <= 3584), "{codec:?}");
            half.truncate(4096 - 300);
            half.resize(4096, 0);
            half[4096 - 1100..4096 - 300].copy_from_slice(&random()[8192..8992]);
            let before = streams.len();
            assert_eq!(
                Compressors::new(codec)
                    .compress(&half, false, &mut streams)
                    .unwrap(),
                None,
                "{codec:?}"
            );
            assert_eq!(streams.len(), before);
        }
    }
}
