//! Values of options: what is typed, and what is wrong with it.

use std::num::NonZeroUsize;

use mkqcow2::format::geometry::ClusterSize;

/// A number of bytes: digits, then nothing or one of K, M, G, T, P, E with or without `iB`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
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
                "'{suffix}' is no unit, expected K, M, G, T, P or E (powers of 1024)"
            ));
        }
    };
    if number.is_empty() {
        return Err("expected a number of bytes, such as 4096, 64K or 1GiB".to_owned());
    }
    let too_large = || "is 16 EiB or more".to_owned();
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(too_large)
}

/// A cluster size, in the same way.
pub(super) fn parse_cluster_size(text: &str) -> Result<ClusterSize, String> {
    let bytes = parse_size(text)?;
    ClusterSize::new(bytes).ok_or_else(|| format!("{bytes} bytes, expected a power of two from 512 to 2M"))
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
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64K", 65536),
            ("64k", 65536),
            ("2M", 2 << 20),
            ("1GiB", 1 << 30),
            ("15E", 15 << 60),
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
            "0x10",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
