//! Linux swap areas. Source: include/linux/swap.h, `union swap_header`; mkswap(8); systemd's and uswsusp's signatures
//! of images of hibernation.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U32};

use super::doubt::Doubt;
use super::map::{AllocationMap, Reason};
use super::scheme::{Content, Found, Scheme};
use super::view::View;
use crate::error::Expected;
use crate::units::to_u64;

pub(super) const SCHEME: Scheme = Scheme {
    name: "swap",
    is,
    read,
};

/// The sizes that pages have on machines that Linux runs on, in bytes.
const PAGE_SIZES: [u64; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// What stands at the end of the first page.
const MAGIC: &[u8; 10] = b"SWAPSPACE2";

/// What stands there instead while a hibernated system sleeps in the area.
const SLEEPING: [&[u8]; 4] = [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];

/// The same, at the beginning of the first page.
const TUX_ON_ICE: &[u8] = &[0xed, 0xc3, 0x02, 0xe9, 0x98, 0x56, 0xe5, 0x0c];

/// Where the header begins, behind room for boot code.
const HEADER: u64 = 1024;

/// What the first page says, from byte 1024 on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawHeader {
    /// 1024: 1, the only version there is.
    version: U32<LE>,
    /// 1028: the number of the last page.
    last_page: U32<LE>,
    /// 1032: how many pages are bad.
    nr_badpages: U32<LE>,
    /// 1036.
    uuid: [u8; 16],
    /// 1052: zeros behind it.
    volume_name: [u8; 16],
}

const _: () = assert!(size_of::<RawHeader>() == 44);

/// The page size, if the first page ends with one of these words.
fn page_size(view: View<'_>, words: &[&[u8]]) -> Option<u64> {
    let ends_so = |size: &u64| {
        words
            .iter()
            .any(|word| view.has(size - to_u64(MAGIC.len()), word))
    };
    PAGE_SIZES.into_iter().find(ends_so)
}

fn is_sleeping(view: View<'_>) -> bool {
    page_size(view, &SLEEPING).is_some() || view.has(0, TUX_ON_ICE)
}

fn is(view: View<'_>) -> bool {
    page_size(view, &[MAGIC]).is_some() || is_sleeping(view)
}

/// The first page is in use, with the list of bad pages in it; what was swapped out is of no use once nobody uses
/// the area.
fn read(view: View<'_>) -> Result<Found, Doubt> {
    if is_sleeping(view) {
        return Err(Doubt::State("a hibernated system sleeps in it"));
    }
    let page_size = page_size(view, &[MAGIC]).ok_or(Doubt::State("its signature is gone"))?;
    let header: RawHeader = view.structure("swap header", HEADER)?;
    let version = u64::from(header.version.get());
    if version != 1 {
        return Err(Doubt::Field {
            structure: "swap header",
            at: view.position(HEADER),
            field: "version",
            found: version,
            expected: Expected::Exactly(1),
        });
    }
    let pages = u64::from(header.last_page.get()).saturating_add(1);
    let size = pages.saturating_mul(page_size);
    view.holds("swap area", 0, size)?;
    let mut map = AllocationMap::new(size);
    map.push(0..page_size, Reason::Mapped);
    let label = String::from_utf8_lossy(&header.volume_name);
    let label = label.trim_end_matches('\0');
    Ok(Found {
        name: "swap",
        label: (!label.is_empty()).then(|| label.to_owned()),
        content: Content::Mapped(map),
    })
}
