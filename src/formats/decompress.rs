//! Compressed clusters. Spec: qcow2.txt, "Compressed Clusters Descriptor".

use std::fmt;
use std::ops::Range;

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;
use zstd_safe::DCtx;

use super::HostFile;
use crate::error::{Corrupt, Error, Result, StreamFault};
use crate::formats::qcow2::structures::header::Compression;
use crate::formats::qcow2::structures::mapping::Stream;
use crate::idle::Idle;
use crate::units::{Exact, to_u64, to_usize};

/// The first bytes of a frame of Zstandard. Source: RFC 8878, section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The largest window that QEMU makes room for, in bytes.
const MAX_WINDOW: u64 = 1 << 27;

/// What a thread needs to decompress one cluster after the other.
pub(crate) struct Decoder {
    deflate: Decompressor,
    /// What tells where a stream ends: the other one does not.
    measure: Decompress,
    zstd: DCtx<'static>,
    /// Room for a stream as it is in the file.
    stream: Vec<u8>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    fn new() -> Self {
        Self {
            deflate: Decompressor::new(),
            measure: Decompress::new(false),
            zstd: DCtx::create(),
            stream: Vec::new(),
        }
    }

    /// Decompresses the stream in a file into the whole cluster that holds the bytes of `guest`.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if that cannot be done.
    /// - [`Error::Io`] if the file cannot be read.
    pub(super) fn read(
        &mut self,
        file: &HostFile,
        stream: Stream,
        compression: Compression,
        guest: Range<u64>,
        cluster: &mut [u8],
    ) -> Result<()> {
        self.load(file, stream)?;
        self.decode(compression, cluster)
            .map_err(|fault| damaged(stream, fault, guest))
    }

    /// The same, and appends the stream to `streams` as it is, without what follows it in its last sector. Returns its
    /// length in bytes.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(super) fn copy(
        &mut self,
        file: &HostFile,
        stream: Stream,
        compression: Compression,
        guest: Range<u64>,
        cluster: &mut [u8],
        streams: &mut Vec<u8>,
    ) -> Result<usize> {
        self.load(file, stream)?;
        let length = match compression {
            Compression::Zlib => inflate_measured(&mut self.measure, &self.stream, cluster),
            Compression::Zstd => unzstd(&mut self.zstd, &self.stream, cluster),
        };
        let length = length.and_then(|(found, length)| whole(found, cluster).map(|()| length));
        let length = length.map_err(|fault| damaged(stream, fault, guest))?;
        streams.extend_from_slice(self.stream.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn load(&mut self, file: &HostFile, stream: Stream) -> Result<()> {
        // At most two clusters: the bits of an entry hold no more.
        self.stream.resize(to_usize(stream.length), 0);
        file.read_exact(&mut self.stream, stream.at)
    }

    /// Decompresses the stream into a whole cluster. What follows the stream does not matter.
    fn decode(&mut self, compression: Compression, cluster: &mut [u8]) -> Result<(), StreamFault> {
        let found = match compression {
            Compression::Zlib => inflate(&mut self.deflate, &self.stream, cluster)?,
            Compression::Zstd => unzstd(&mut self.zstd, &self.stream, cluster)?.0,
        };
        whole(found, cluster)
    }
}

fn damaged(stream: Stream, fault: StreamFault, guest: Range<u64>) -> Error {
    let (at, lost) = (stream.at, guest.into());
    Corrupt::Stream { at, fault, lost }.into()
}

fn whole(found: usize, cluster: &[u8]) -> Result<(), StreamFault> {
    let (found, expected) = (to_u64(found), to_u64(cluster.len()));
    if found == expected {
        Ok(())
    } else {
        Err(StreamFault::TooShort { found, expected })
    }
}

fn inflate(deflate: &mut Decompressor, stream: &[u8], cluster: &mut [u8]) -> Result<usize, StreamFault> {
    // Twice as fast as zlib-rs, but it does not tell what is wrong.
    match deflate.deflate_decompress(stream, cluster) {
        Ok(found) => Ok(found),
        Err(_) => inflate_slowly(stream, cluster),
    }
}

fn inflate_slowly(stream: &[u8], cluster: &mut [u8]) -> Result<usize, StreamFault> {
    let (found, _) = inflate_measured(&mut Decompress::new(false), stream, cluster)?;
    Ok(found)
}

/// Returns how many bytes came out, and how many the stream has.
fn inflate_measured(
    deflate: &mut Decompress,
    stream: &[u8],
    cluster: &mut [u8],
) -> Result<(usize, usize), StreamFault> {
    deflate.reset(false);
    let status = deflate.decompress(stream, cluster, FlushDecompress::Finish);
    let found = usize::try_from(deflate.total_out()).unwrap_or(usize::MAX);
    let length = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
    let (all, expected) = (found == cluster.len(), to_u64(cluster.len()));
    match status {
        Ok(Status::StreamEnd) => Ok((found, length)),
        Ok(Status::Ok | Status::BufError) if all => Err(StreamFault::TooLong { expected }),
        Ok(Status::Ok | Status::BufError) => Err(StreamFault::TooShort {
            found: to_u64(found),
            expected,
        }),
        Err(_) => Err(StreamFault::Damaged),
    }
}

/// There may be several frames, one after the other. Returns how many bytes came out, and how many the frames have.
fn unzstd(
    zstd: &mut DCtx<'static>,
    stream: &[u8],
    cluster: &mut [u8],
) -> Result<(usize, usize), StreamFault> {
    let expected = to_u64(cluster.len());
    let (mut rest, mut found) = (stream, 0_usize);
    while let Some(room) = cluster.get_mut(found..).filter(|room| !room.is_empty()) {
        if window(rest).is_some_and(|window| window > MAX_WINDOW) {
            return Err(StreamFault::Window { limit: MAX_WINDOW });
        }
        // Every frame takes bytes of the stream, so that this ends.
        let frame = zstd_safe::find_frame_compressed_size(rest).ok();
        let Some((frame, behind)) = frame.and_then(|length| rest.split_at_checked(length)) else {
            let found = to_u64(found);
            return Err(if rest.is_empty() || found > 0 {
                StreamFault::TooShort { found, expected }
            } else {
                StreamFault::Damaged
            });
        };
        let decoded = zstd.decompress(room, frame).map_err(|code| {
            // The library has a name for it, but no constant.
            if zstd_safe::get_error_name(code).contains("too small") {
                StreamFault::TooLong { expected }
            } else {
                StreamFault::Damaged
            }
        })?;
        found.increase(decoded);
        rest = behind;
    }
    Ok((found, stream.len().saturating_sub(rest.len())))
}

/// The window that a frame wants, in bytes, if its content size is not known in advance: otherwise there is no
/// need for one. Source: RFC 8878, section 3.1.1.1.
fn window(frame: &[u8]) -> Option<u64> {
    let rest = frame.strip_prefix(&ZSTD_MAGIC)?;
    let (descriptor, window) = (rest.first()?, rest.get(1)?);
    let (has_content_size, is_single_segment) = (descriptor >> 6 != 0, descriptor & 0x20 != 0);
    if has_content_size || is_single_segment {
        return None;
    }
    let base = 1_u64 << (window >> 3).plus(10);
    Some(base.plus((base / 8).times(u64::from(window & 7))))
}

/// Decoders that are used again.
#[derive(Debug, Default)]
pub(crate) struct Decoders {
    idle: Idle<Decoder>,
}

impl Decoders {
    /// Lends a decoder.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Decoder) -> T) -> T {
        self.idle.with(Decoder::new, work)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
        zstd_safe::compress(&mut out, bytes, 3).unwrap();
        out
    }

    fn decode(compression: Compression, stream: Vec<u8>) -> Result<Vec<u8>, StreamFault> {
        let mut decoder = Decoder::new();
        decoder.stream = stream;
        let mut cluster = vec![0xaa; 512];
        decoder.decode(compression, &mut cluster).map(|()| cluster)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[test]
    fn a_stream_is_one_cluster_whatever_follows_it() {
        for (compression, mut stream) in [
            (Compression::Zlib, deflated(&bytes(512))),
            (Compression::Zstd, zstd(&bytes(512))),
        ] {
            stream.extend([0xff; 100]);
            assert_eq!(decode(compression, stream), Ok(bytes(512)), "{compression:?}");
        }
    }

    #[test]
    fn a_stream_is_copied_without_what_follows_it() {
        let directory = tempfile();
        for (compression, stream) in [
            (Compression::Zlib, deflated(&bytes(512))),
            (
                Compression::Zstd,
                [zstd(&bytes(200)), zstd(&bytes(512)[200..])].concat(),
            ),
        ] {
            let mut file = vec![0x55; 700];
            file.extend(&stream);
            file.extend([0x77; 300]);
            std::fs::write(&directory, &file).unwrap();
            let file = HostFile::open(&directory).unwrap();
            let (at, length) = (crate::units::HostOffset(700), to_u64(stream.len()) + 300);
            let (mut cluster, mut streams) = (vec![0; 512], vec![9]);
            let found = Decoder::new()
                .copy(
                    &file,
                    Stream { at, length },
                    compression,
                    0..512,
                    &mut cluster,
                    &mut streams,
                )
                .unwrap();
            assert_eq!(found, stream.len(), "{compression:?}");
            assert_eq!(streams, [&[9], stream.as_slice()].concat());
            assert_eq!(cluster, bytes(512));
        }
        std::fs::remove_file(directory).unwrap();
    }

    fn tempfile() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("mkqcow2-copied-stream-{}", std::process::id()))
    }

    #[test]
    fn a_cluster_may_have_several_frames() {
        let whole = bytes(512);
        let (first, second) = whole.split_at(100);
        let stream = [zstd(first), zstd(second)].concat();
        assert_eq!(decode(Compression::Zstd, stream), Ok(whole));
    }

    #[test]
    fn a_stream_of_another_length_is_an_error() {
        let (found, expected) = (500, 512);
        for (compression, stream) in [
            (Compression::Zlib, deflated(&bytes(500))),
            (Compression::Zstd, zstd(&bytes(500))),
        ] {
            let fault = StreamFault::TooShort { found, expected };
            assert_eq!(decode(compression, stream), Err(fault), "{compression:?}");
        }
        for (compression, stream) in [
            (Compression::Zlib, deflated(&bytes(513))),
            (Compression::Zstd, zstd(&bytes(513))),
        ] {
            let fault = StreamFault::TooLong { expected };
            assert_eq!(decode(compression, stream), Err(fault), "{compression:?}");
        }
    }

    #[test]
    fn garbage_and_cut_streams_are_errors() {
        for compression in [Compression::Zlib, Compression::Zstd] {
            assert_eq!(decode(compression, vec![0xff; 300]), Err(StreamFault::Damaged));
            assert!(decode(compression, Vec::new()).is_err());
        }
        let noise = crate::noise::noise(512);
        for (compression, stream) in [
            (Compression::Zlib, deflated(&noise)),
            (Compression::Zstd, zstd(&noise)),
        ] {
            for length in 0..stream.len() {
                assert!(
                    decode(compression, stream[..length].to_vec()).is_err(),
                    "{compression:?} {length}"
                );
            }
        }
    }

    #[test]
    fn a_window_that_qemu_makes_no_room_for_is_refused() {
        // No content size; window of 2^28 bytes; one raw block of no bytes, the last.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0];
        let fault = StreamFault::Window { limit: MAX_WINDOW };
        assert_eq!(decode(Compression::Zstd, frame.to_vec()), Err(fault));
    }
}
