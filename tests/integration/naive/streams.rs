//! Compressed clusters: every stream, and what strict programs make of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::{Header, Image, Mapping, assert_zeros, bytes_at};

/// Inflates streams with a window of 12 bits, as strict readers do; told where each begins and how far it may
/// reach, it tells how long it is and what is in it.
const INFLATE: &str = "
import struct, sys, zlib
image, cluster_size = open(sys.argv[1], 'rb'), int(sys.argv[2])
for line in sys.stdin.read().splitlines():
    at, reach = map(int, line.split())
    image.seek(at)
    given = image.read(reach)
    inflate = zlib.decompressobj(-12)
    cluster = inflate.decompress(given)
    if not inflate.eof or len(cluster) != cluster_size:
        sys.exit(f'stream at {at:#x}: {len(cluster)} bytes, at its end: {inflate.eof}')
    sys.stdout.buffer.write(struct.pack('>I', len(given) - len(inflate.unused_data)) + cluster)
";

/// The magic number of a frame of Zstandard.
const ZSTD_MAGIC: u32 = 0xfd2f_b528;

/// A compressed cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The length of the stream in bytes.
    pub length: u64,
    /// All of the cluster.
    pub bytes: Vec<u8>,
}

/// Decompresses all streams, once each.
pub(super) fn read(
    path: &Path,
    bytes: &[u8],
    header: &Header,
    mapping: &BTreeMap<u64, Mapping>,
) -> BTreeMap<u64, Stream> {
    // Where each begins, and where its last sector ends.
    let mut places = BTreeMap::new();
    for (cluster, mapping) in mapping {
        if let Mapping::Stream { at, sectors } = mapping {
            let end = (at / 512 + sectors) * 512;
            let before = places.insert(*at, end);
            let is_same = before.is_none_or(|before| before == end);
            assert!(is_same, "cluster {cluster} shares a stream of another length");
        }
    }
    if places.is_empty() {
        return BTreeMap::new();
    }
    let (cluster_size, length) = (header.cluster_size(), bytes.len() as u64);
    let streams = if header.is_zstd {
        let frames = places.iter().map(|(at, end)| {
            let reach = (*end).min(length) - at;
            zstd_frame(bytes_at(bytes, *at, reach), cluster_size)
        });
        unzstd(&frames.collect::<Vec<_>>(), cluster_size)
    } else {
        inflate(path, &places, cluster_size)
    };
    places.into_keys().zip(streams).collect()
}

/// Holds the streams to what entries say of them, and to each other: they do not overlap.
pub(super) fn verify(image: &Image) {
    let cluster_size = image.cluster_size();
    let longest = if cluster_size == 512 {
        448
    } else {
        cluster_size - 512
    };
    for (cluster, mapping) in &image.mapping {
        if let Mapping::Stream { at, sectors } = mapping {
            let last = at + image.streams[at].length - 1;
            assert_eq!(
                *sectors,
                last / 512 - at / 512 + 1,
                "sectors of cluster {cluster}"
            );
        }
    }
    let mut streams = image.streams.iter().peekable();
    while let Some((at, stream)) = streams.next() {
        assert!(stream.length <= longest, "stream at {at:#x}: saves nothing");
        let end = at + stream.length;
        let next = streams.peek().map_or(u64::MAX, |(next, _)| **next);
        assert!(end <= next, "streams at {at:#x} and {next:#x} overlap");
        let gap = end..end.next_multiple_of(cluster_size).min(next);
        assert_zeros(&image.bytes, gap, "behind the last stream of a host cluster");
    }
}

/// Decompresses streams of zlib, which are given with the end of their last sector.
fn inflate(path: &Path, places: &BTreeMap<u64, u64>, cluster_size: u64) -> Vec<Stream> {
    let mut list = String::new();
    for (at, end) in places {
        writeln!(list, "{at} {}", end - at).unwrap();
    }
    let mut python = Command::new("python3");
    python
        .args(["-I", "-S", "-c", INFLATE])
        .arg(path)
        .arg(cluster_size.to_string());
    let found = filter(python, list.as_bytes());
    let found = found.chunks_exact(4 + cluster_size as usize);
    assert_eq!(found.len(), places.len(), "streams that python3 has inflated");
    let stream = |found: &[u8]| {
        let (length, bytes) = found.split_first_chunk().unwrap();
        Stream {
            length: u32::from_be_bytes(*length).into(),
            bytes: bytes.to_vec(),
        }
    };
    found.map(stream).collect()
}

/// Decompresses streams of Zstandard.
fn unzstd(frames: &[&[u8]], cluster_size: u64) -> Vec<Stream> {
    let mut zstd = Command::new("zstd");
    // Not more memory than the largest cluster needs.
    zstd.args(["-q", "-d", "-c", "--memory=2MB"]);
    let found = filter(zstd, &frames.concat());
    let clusters = found.chunks_exact(cluster_size as usize);
    assert_eq!(clusters.len(), frames.len(), "frames that zstd has decompressed");
    let stream = |(cluster, frame): (&[u8], &&[u8])| Stream {
        length: frame.len() as u64,
        bytes: cluster.to_vec(),
    };
    clusters.zip(frames).map(stream).collect()
}

/// The frame that `bytes` begin with: its size is that of a cluster, and it needs no window that is larger.
/// RFC 8878, "Zstandard Frames".
fn zstd_frame(bytes: &[u8], cluster_size: u64) -> &[u8] {
    let little = |at: usize, length: usize| {
        let bytes = bytes[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!(little(0, 4), u64::from(ZSTD_MAGIC), "magic of a frame");
    let descriptor = bytes[4];
    assert_eq!(
        descriptor & 0x0f,
        0,
        "reserved bits, checksum and dictionary of a frame"
    );
    let (is_single, mut at) = (descriptor & 0x20 != 0, 5);
    let mut window = None;
    if !is_single {
        let (exponent, mantissa) = (bytes[at] >> 3, u64::from(bytes[at] & 7));
        let base = 1 << (10 + exponent);
        window = Some(base + base / 8 * mantissa);
        at += 1;
    }
    let (length, add) = match (descriptor >> 6, is_single) {
        (0, false) => panic!("a frame does not say what size its content has"),
        (0, true) => (1, 0),
        (1, _) => (2, 256),
        (2, _) => (4, 0),
        (_, _) => (8, 0),
    };
    let content = little(at, length) + add;
    at += length;
    assert_eq!(content, cluster_size, "size of the content of a frame");
    let window = window.unwrap_or(content);
    assert!(window <= cluster_size, "a window of {window} bytes");
    loop {
        let block = little(at, 3);
        let (is_last, kind, size) = (block & 1 == 1, block >> 1 & 3, (block >> 3) as usize);
        at += 3 + match kind {
            0 | 2 => size,
            1 => 1,
            _ => panic!("a block of a reserved type"),
        };
        if is_last {
            return &bytes[..at];
        }
    }
}

/// What a program makes of `input`; it is held to success.
fn filter(mut program: Command, input: &[u8]) -> Vec<u8> {
    let name = program.get_program().to_owned();
    program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let spawned = program.spawn();
    let mut child =
        spawned.unwrap_or_else(|error| panic!("{}: {error}: tests/run installs it", name.display()));
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        // It has ended early if this fails, which it is asked about below.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {}\n{said}",
        name.display(),
        output.status
    );
    output.stdout
}
