//! Fields that structures of many formats have: numbers at an offset, labels, UUIDs.

/// The byte at an offset; 0 behind the end.
pub(super) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// A little-endian number of 16 bits at an offset; 0 behind the end.
pub(super) fn u16_le(bytes: &[u8], at: usize) -> u16 {
    at_offset(bytes, at).map_or(0, u16::from_le_bytes)
}

/// The same, big-endian.
pub(super) fn u16_be(bytes: &[u8], at: usize) -> u16 {
    at_offset(bytes, at).map_or(0, u16::from_be_bytes)
}

/// A little-endian number of 32 bits at an offset; 0 behind the end.
pub(super) fn u32_le(bytes: &[u8], at: usize) -> u32 {
    at_offset(bytes, at).map_or(0, u32::from_le_bytes)
}

/// The same, big-endian.
pub(super) fn u32_be(bytes: &[u8], at: usize) -> u32 {
    at_offset(bytes, at).map_or(0, u32::from_be_bytes)
}

/// A little-endian number of 64 bits at an offset; 0 behind the end.
pub(super) fn u64_le(bytes: &[u8], at: usize) -> u64 {
    at_offset(bytes, at).map_or(0, u64::from_le_bytes)
}

/// The same, big-endian.
pub(super) fn u64_be(bytes: &[u8], at: usize) -> u64 {
    at_offset(bytes, at).map_or(0, u64::from_be_bytes)
}

fn at_offset<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The label in a field that has zeros behind it; none if it is empty.
pub(super) fn label(field: &[u8]) -> Option<String> {
    let label = String::from_utf8_lossy(field);
    let label = label.trim_end_matches('\0');
    (!label.is_empty()).then(|| label.to_owned())
}

/// A UUID as everything writes it: 8, 4, 4, 4 and 12 digits.
pub(super) fn uuid(bytes: [u8; 16]) -> String {
    bytes
        .iter()
        .enumerate()
        .fold(String::new(), |text, (number, byte)| {
            let hyphen = if [4, 6, 8, 10].contains(&number) { "-" } else { "" };
            format!("{text}{hyphen}{byte:02x}")
        })
}

/// A GUID as it stands on disks: the first three numbers are little-endian. The same again leads from text to a disk.
pub(super) fn guid_order(guid: [u8; 16]) -> [u8; 16] {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    order.map(|place: usize| guid.get(place).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_they_are_and_are_0_behind_the_end() {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!((u32_le(&bytes, 1), u32_be(&bytes, 1)), (0x0403_0201, 0x0102_0304));
        assert_eq!(u64_le(&bytes, 1), 0x0807_0605_0403_0201);
        assert_eq!(u64_be(&bytes, 1), 0x0102_0304_0506_0708);
        assert_eq!(
            (u32_le(&bytes, 6), u64_be(&bytes, 2), u32_be(&bytes, 99)),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_label_ends_where_only_zeros_follow() {
        assert_eq!(label(b"root\0\0").as_deref(), Some("root"));
        assert_eq!(label(b"full").as_deref(), Some("full"));
        assert_eq!(label(b"\0\0\0"), None);
    }
}
