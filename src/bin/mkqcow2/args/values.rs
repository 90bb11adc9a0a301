//! Values of options: what is typed, and what is wrong with it.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use mkqcow2::formats::Password;
use mkqcow2::formats::qcow2::structures::geometry::ClusterSize;
use mkqcow2::pipeline::compress::Codec;
use mkqcow2::units::{Exact, to_u64};

/// A number of bytes: digits, then nothing or one of K, M, G, T, P, E with or without `iB`; or `0x` and hexadecimal
/// digits, as `map` prints offsets. There E is a digit, so no unit follows.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return parse_hexadecimal(text, digits);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let unit = suffix
        .strip_suffix("iB")
        .filter(|unit| !unit.is_empty())
        .unwrap_or(suffix);
    let shift = match unit {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" | "p" => 50,
        "E" | "e" => 60,
        _ => {
            return Err(format!(
                "'{suffix}' is not a unit, expected K, M, G, T, P or E (powers of 1024)"
            ));
        }
    };
    if number.is_empty() {
        return Err("expected a number of bytes, such as 4096, 64K or 1GiB".to_owned());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(too_large)
}

fn parse_hexadecimal(text: &str, digits: &str) -> Result<u64, String> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_number {
        return Err(format!(
            "'{text}' is not a hexadecimal number of bytes, such as 0x4100000 (without a unit)"
        ));
    }
    u64::from_str_radix(digits, 16).map_err(|_| too_large())
}

fn too_large() -> String {
    "is 16 EiB or more".to_owned()
}

/// A cluster size, in the same way.
pub(super) fn parse_cluster_size(text: &str) -> Result<ClusterSize, String> {
    let bytes = parse_size(text)?;
    ClusterSize::new(bytes).ok_or_else(|| format!("{bytes} bytes, expected a power of two from 512 to 2M"))
}

/// The most that is read of a file with a password, in bytes.
const MAX_PASSWORD: u64 = 4096;

/// A password: what is in the file, but for a line feed at its end.
pub(super) fn read_password(path: PathBuf) -> io::Result<Password> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(MAX_PASSWORD.plus(1))
        .read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let refused = |why: &str| Err(io::Error::other(why));
    if to_u64(read) > MAX_PASSWORD {
        return refused("is too long for a password");
    }
    if bytes.is_empty() {
        return refused("is empty, expected a password");
    }
    Ok(Password::new(bytes))
}

/// How to compress, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compress(pub(super) Option<Codec>);

/// `none`, or a method, with a level behind it or without.
pub(super) fn parse_compress(text: &str) -> Result<Compress, String> {
    let (method, level) = match text.split_once(':') {
        Some((method, level)) => (method, Some(level)),
        None => (text, None),
    };
    let codec = match (method, level) {
        ("none", None) => return Ok(Compress(None)),
        ("none", Some(_)) => return Err("none has no level".to_owned()),
        ("zstd", _) => Codec::ZSTD,
        ("zlib", _) => Codec::ZLIB,
        _ => return Err("expected none, zstd or zlib, such as zstd:9".to_owned()),
    };
    let Some(level) = level else {
        return Ok(Compress(Some(codec)));
    };
    let max = Codec::max_level(codec.compression());
    match level.parse().ok().and_then(|level| codec.with_level(level)) {
        Some(codec) => Ok(Compress(Some(codec))),
        None => Err(format!(
            "the level is '{level}', expected 1 to {max} for {method}"
        )),
    }
}

/// How much memory the search for equal clusters may take.
pub(super) fn parse_dedupe_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    let limits = 1 << 20..=64 << 30;
    if limits.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{bytes} bytes, expected 1M to 64G"))
    }
}

/// A number of workers.
pub(super) fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text.parse().ok().filter(|threads| (1..=256).contains(threads));
    threads
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| "expected a number from 1 to 256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_has_levels_of_its_own() {
        let parsed = |text| parse_compress(text).map(|Compress(codec)| codec);
        assert_eq!(parsed("none"), Ok(None));
        for (text, codec, level) in [
            ("zstd", Codec::ZSTD, 3),
            ("zstd:1", Codec::ZSTD, 1),
            ("zstd:19", Codec::ZSTD, 19),
            ("zlib", Codec::ZLIB, 6),
            ("zlib:9", Codec::ZLIB, 9),
        ] {
            assert_eq!(parsed(text), Ok(codec.with_level(level)), "{text}");
        }
        for text in [
            "", "gzip", "none:1", "zstd:", "zstd:0", "zstd:20", "zstd:-1", "zlib:10", "zlib:256", "ZSTD",
            "zstd:3:4",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64K", 65536),
            ("64k", 65536),
            ("2M", 2 << 20),
            ("1GiB", 1 << 30),
            ("15E", 15 << 60),
            ("0x0", 0),
            ("0x4100000", 65 << 20),
            ("0X1e", 30),
            ("0xFfffffffffffffff", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "K",
            "iB",
            "1KB",
            "1.5G",
            "-1",
            "+1",
            "1 K",
            "16E",
            "99999999999999999999",
            "1iB",
            "0x",
            "0X",
            "0x10K",
            "0x1 ",
            "0x+1",
            "-0x1",
            "00x1",
            "10x",
            "0x10000000000000000",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
