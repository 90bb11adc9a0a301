//! Volumes encrypted with LUKS. What is free in them cannot be told without a key; who they are can. Sources: the LUKS1
//! on-disk format specification, version 1.2.3, section 2; the LUKS2 on-disk format specification, sections 2 and 3.

use serde_json::Value;
use zerocopy::{BE, FromBytes, Immutable, IntoBytes, KnownLayout, U16, U64, Unaligned};

use crate::volumes::doubt::Doubt;
use crate::volumes::region::Detail;
use crate::volumes::scheme::{Found, Reader, Usage};
use crate::volumes::view::View;

pub(in crate::volumes) const READER: Reader = Reader {
    name: "LUKS",
    read,
    tool: Some("cryptsetup luksUUID --uuid $(uuidgen) DEVICE"),
};

/// How to leave out what is free in an encrypted volume.
pub(super) const OPEN_IT: &str = "it is encrypted (to leave out what is free in it, open it with cryptsetup, and image \
                                  the device that appears in /dev/mapper)";

/// The beginning of a header. Both versions have the fields that are named here in the same places, but for the
/// cipher and the label.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// 0: `LUKS\xba\xbe`.
    magic: [u8; 6],
    /// 6: 1 or 2.
    version: U16<BE>,
    /// 8: version 1: `cipher-name`, 32 bytes, and `cipher-mode`, 32 bytes, each with zeros behind it. Version 2:
    /// `hdr_size`, the length of this and the JSON, in bytes; `seqid`; `label`, 48 bytes; `csum_alg`, 32 bytes.
    others: [u8; 160],
    /// 168: zeros behind it.
    uuid: [u8; 40],
}

const _: () = assert!(size_of::<RawHeader>() == 208);

/// Where the JSON of version 2 begins.
const JSON: u64 = 4096;

/// The longest JSON that is looked into, in bytes. cryptsetup makes 12 KiB of it, if it is not told otherwise.
const MAX_JSON: u64 = 256 << 10;

fn read(view: View<'_>) -> Result<Found, Doubt> {
    let raw = view.structure::<RawHeader>("LUKS header", 0)?;
    let found = |name, label, details| Found {
        name,
        label,
        details,
        content: Usage::Whole(OPEN_IT.to_owned()),
    };
    let uuid = text(&raw.uuid).map(|uuid| Detail::new("uuid", uuid));
    let is_first = raw.magic == *b"LUKS\xba\xbe";
    Ok(match (is_first, raw.version.get()) {
        (true, 1) => {
            let cipher = [0, 32].map(|at| text(raw.others.get(at..).and_then(|rest| rest.get(..32))?));
            let [Some(name), Some(mode)] = cipher else {
                return Ok(found("LUKS1", None, uuid.into_iter().collect()));
            };
            let cipher = Detail::new("cipher", format!("{name}-{mode}"));
            found("LUKS1", None, uuid.into_iter().chain([cipher]).collect())
        }
        (true, 2) => {
            let label = raw.others.get(16..64).and_then(text);
            let cipher = cipher(view, &raw).map(|cipher| Detail::new("cipher", cipher));
            found("LUKS2", label, uuid.into_iter().chain(cipher).collect())
        }
        // The second header only, or something new.
        _ => found(READER.name, None, Vec::new()),
    })
}

/// What stands in front of the zeros of a field, if anything does.
fn text(field: &[u8]) -> Option<String> {
    let text = field.split(|byte| *byte == 0).next()?;
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// How the data is encrypted, by the JSON of version 2; none if that cannot be read.
fn cipher(view: View<'_>, raw: &RawHeader) -> Option<String> {
    let (size, _) = U64::<BE>::read_from_prefix(&raw.others).ok()?;
    let length = size.get().checked_sub(JSON)?.min(MAX_JSON);
    let json = view.bytes("LUKS2 metadata", JSON, length).ok()?;
    let json = json.split(|byte| *byte == 0).next()?;
    let json: Value = serde_json::from_slice(json).ok()?;
    let segments = json.get("segments")?.as_object()?;
    let ciphers = segments
        .values()
        .filter_map(|segment| segment.get("encryption")?.as_str());
    let mut ciphers: Vec<_> = ciphers.collect();
    ciphers.dedup();
    (!ciphers.is_empty()).then(|| ciphers.join(", "))
}
