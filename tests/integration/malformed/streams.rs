//! Compressed clusters that are no such thing.

use super::bases::Base::{V3, Zlib, Zstd};
use super::patient::{COMPRESSED, COPIED, Patient};
use super::{Altered, Line, Reads, Refused};

/// What cluster 0 of both bases holds.
fn content() -> Vec<u8> {
    crate::corpus::text(100, 4096)
}

/// A raw deflate stream of one stored block.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    let mut stream = vec![1];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(bytes);
    stream
}

/// A zstd frame of one raw block, made for a window of so many bits; its header tells no size of the content.
fn raw_frame(bytes: &[u8], window_bits: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_bits - 10) << 3];
    frame.extend(&(1 | (bytes.len() as u32) << 3).to_le_bytes()[..3]);
    frame.extend(bytes);
    frame
}

/// The same, but the header tells a size of the content.
fn sized_frame(bytes: &[u8], size: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(size.to_le_bytes());
    frame.extend(&(1 | (bytes.len() as u32) << 3).to_le_bytes()[..3]);
    frame.extend(bytes);
    frame
}

/// More than a cluster.
fn too_much() -> Vec<u8> {
    [content(), b"!".to_vec()].concat()
}

/// Overwrites a stream, and leaves its entry as it is.
fn overwrite(p: &mut Patient, cluster: u64, with: u8) {
    let (at, length) = p.stream(cluster);
    p.bytes[at as usize..(at + length) as usize].fill(with);
}

#[rustfmt::skip]
pub(super) const ROWS: &[Line] = &[
    ("zlib offset past the end", Zlib, |p| p.point_stream(0, 1 << 40, 4),
        Refused("expected an offset within the file")),
    ("zlib offset at the end of all offsets", Zlib, |p| p.point_stream(0, (1 << 58) - 1, 16),
        Refused("expected an offset within the file")),
    ("zlib offset just behind the end", Zlib, |p| p.point_stream(513, p.len(), 16),
        Refused("expected an offset within the file")),
    ("zlib offset in the header", Zlib, |p| p.point_stream(0, 100, 4),
        Refused("expected an offset behind the header")),
    ("zlib offset 0", Zlib, |p| p.point_stream(0, 0, 1), Refused("expected an offset behind the header")),
    ("zlib offset in the L1 table", Zlib, |p| p.point_stream(0, p.l1(), 4),
        Refused("compressed cluster at 0x3000: ")),
    ("zlib stream cut short by its entry", Zlib, |p| p.point_stream(0, p.stream(0).0, 1),
        Refused("compressed cluster at")),
    ("zlib stream that ends too soon", Zlib, |p| p.compress(0, &stored(&content()[..4095])),
        Refused("the stream holds 4095 bytes, expected 4096")),
    ("zlib stream of nothing", Zlib, |p| p.compress(0, &stored(&[])),
        Refused("the stream holds 0 bytes, expected 4096")),
    ("zlib stream that does not end", Zlib, |p| p.compress(0, &stored(&too_much())),
        Refused("the stream holds more than 4096 bytes")),
    ("zlib stream of garbage", Zlib, |p| overwrite(p, 1, 0xff), Refused("the stream is damaged")),
    ("zlib stream of zeros", Zlib, |p| overwrite(p, 513, 0), Refused("the stream is damaged")),
    ("zlib stream with a bit flipped at its start", Zlib,
        |p| { let at = p.stream(2).0; p.put8(at, p.bytes[at as usize] ^ 2); },
        Refused("compressed cluster at")),
    ("zlib stream with a header", Zlib,
        |p| p.compress(0, &[b"\x78\x9c".to_vec(), stored(&content())].concat()),
        Refused("the stream is damaged")),
    ("zlib stream with a wrong stored length", Zlib,
        |p| { let mut s = stored(&content()); s[3] ^= 1; p.compress(0, &s); },
        Refused("the stream is damaged")),
    ("zlib stream that looks back before its start", Zlib,
        |p| p.compress(0, &[0x63, 0x60, 0x40, 0x05, 0xff, 0x03, 0x00, 0x13]),
        Refused("compressed cluster at")),
    ("zlib stream of one stored block", Zlib, |p| p.compress(0, &stored(&content())), Reads(2)),
    ("zlib entry that is COPIED", Zlib, |p| p.set(p.l2_entry(0), COPIED), Reads(2)),
    ("zlib entry with all sectors", Zlib, |p| p.point_stream(3, p.stream(3).0, 16), Reads(2)),
    ("zlib streams that are one", Zlib, |p| p.put64(p.l2_entry(1), p.get64(p.l2_entry(0))), Altered(2)),
    ("data called compressed", V3, |p| p.put64(p.l2_entry(0), COMPRESSED | p.host(0)),
        Refused("compressed cluster at")),
    ("compressed called data", Zlib, |p| p.put64(p.l2_entry(0), COPIED | p.stream(0).0), Altered(0)),

    ("zstd offset past the end", Zstd, |p| p.point_stream(0, 1 << 40, 4),
        Refused("expected an offset within the file")),
    ("zstd stream cut short by its entry", Zstd, |p| p.point_stream(0, p.stream(0).0, 1),
        Refused("compressed cluster at")),
    ("zstd stream that ends too soon", Zstd, |p| p.compress(0, &raw_frame(&content()[..4095], 17)),
        Refused("the stream holds 4095 bytes, expected 4096")),
    ("zstd stream of nothing", Zstd, |p| p.compress(0, &raw_frame(&[], 17)),
        Refused("compressed cluster at")),
    ("zstd stream that does not end", Zstd, |p| p.compress(0, &raw_frame(&too_much(), 17)),
        Refused("the stream holds more than 4096 bytes")),
    ("zstd stream of garbage", Zstd, |p| overwrite(p, 1, 0xff), Refused("the stream is damaged")),
    ("zstd stream of zeros", Zstd, |p| overwrite(p, 513, 0), Refused("the stream is damaged")),
    ("zstd stream with another magic", Zstd, |p| { let at = p.stream(2).0; p.put8(at, 0x29); },
        Refused("the stream is damaged")),
    ("zstd window 2^27", Zstd, |p| p.compress(0, &raw_frame(&content(), 27)), Reads(2)),
    ("zstd window 2^28", Zstd, |p| p.compress(0, &raw_frame(&content(), 28)),
        Refused("the stream wants a window of more than 134217728 bytes")),
    ("zstd window 2^41", Zstd, |p| p.compress(0, &raw_frame(&content(), 41)),
        Refused("the stream wants a window of more than 134217728 bytes")),
    ("zstd content size of 4 GiB", Zstd, |p| p.compress(0, &sized_frame(&content(), u32::MAX)),
        Refused("compressed cluster at")),
    ("zstd content size too small", Zstd, |p| p.compress(0, &sized_frame(&content(), 4095)),
        Refused("compressed cluster at")),
    ("zstd content size and content too large", Zstd, |p| p.compress(0, &sized_frame(&too_much(), 4097)),
        Refused("compressed cluster at")),
    ("zstd frame with its size", Zstd, |p| p.compress(0, &sized_frame(&content(), 4096)), Reads(2)),
    ("zstd frame to be skipped", Zstd, |p| p.compress(0, b"\x50\x2a\x4d\x18\xff\xff\xff\x7f"),
        Refused("compressed cluster at")),
];
