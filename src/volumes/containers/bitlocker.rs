//! Volumes encrypted with Microsoft's `BitLocker`. Source: cryptsetup, `lib/bitlk/bitlk.c`, which names the fields.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U64, Unaligned};

use super::luks::OPEN_IT;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::region::Detail;
use crate::volumes::scheme::{Found, Reader, Usage};
use crate::volumes::view::View;

pub(in crate::volumes) const READER: Reader = Reader {
    name: "BitLocker",
    read,
    tool: None,
};

/// What tells where metadata begins: on fixed disks and on removable ones.
const PLACES: [u64; 2] = [160, 424];

/// The identity of the format, in front of the places of its metadata.
const GUID: [u8; 16] = *b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";

/// What stands at such a place.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawPlace {
    /// 0.
    guid: [u8; 16],
    /// 16: in bytes of the volume.
    metadata: [U64<LE>; 3],
}

const _: () = assert!(size_of::<RawPlace>() == 40);

/// The beginning of the metadata.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawMetadata {
    /// 0: `-FVE-FS-`.
    signature: [u8; 8],
    /// 8: sizes, version, states, places.
    block: [u8; 56],
    /// 64: sizes and version of what follows.
    header: [u8; 16],
    /// 80: of the volume.
    guid: [u8; 16],
    /// 96.
    next_nonce: [u8; 4],
    /// 100: how it is encrypted.
    encryption: U16<LE>,
}

const _: () = assert!(size_of::<RawMetadata>() == 102);

#[expect(clippy::unnecessary_wraps, reason = "other readers have doubts")]
fn read(view: View<'_>) -> Result<Found, Doubt> {
    Ok(Found {
        name: READER.name,
        label: None,
        details: details(view).unwrap_or_default(),
        content: Usage::Whole(OPEN_IT.to_owned()),
    })
}

/// None if they cannot be read.
fn details(view: View<'_>) -> Option<Vec<Detail>> {
    let place = PLACES.iter().find_map(|at| {
        let place: RawPlace = view.structure("BitLocker header", *at).ok()?;
        (place.guid == GUID).then_some(place)
    })?;
    let metadata = place.metadata.iter().find_map(|at| {
        let metadata: RawMetadata = view.structure("BitLocker metadata", at.get()).ok()?;
        (metadata.signature == *b"-FVE-FS-").then_some(metadata)
    })?;
    let cipher = match metadata.encryption.get() {
        0x8000 | 0x8001 => Some("aes-cbc with diffuser"),
        0x8002 | 0x8003 => Some("aes-cbc"),
        0x8004 | 0x8005 => Some("aes-xts"),
        _ => None,
    };
    let uuid = Detail::new("uuid", fields::uuid(fields::guid_order(metadata.guid)));
    let cipher = cipher.map(|cipher| Detail::new("cipher", cipher));
    Some(std::iter::once(uuid).chain(cipher).collect())
}
