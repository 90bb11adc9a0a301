//! Linux swap areas. Source: include/linux/swap.h, `union swap_header`; mkswap(8); systemd's and uswsusp's signatures
//! of images of hibernation.

mod identity;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U32, Unaligned};

use crate::error::Expected;
use crate::units::{Exact, to_u64};
use crate::volumes::answer::{self, Answer};
use crate::volumes::builder::MapBuilder;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::map::Reason;
use crate::volumes::scheme::{Found, Read, Scheme, Usage};
use crate::volumes::view::View;

pub(in crate::volumes) const SCHEME: Scheme = Scheme {
    name: "swap",
    is,
    read: Read::Alone(read),
    glance: None,
    renew: Some(identity::renew),
    tool: "swaplabel -U $(uuidgen) DEVICE",
};

/// The sizes that pages have on machines that Linux runs on, in bytes.
const PAGE_SIZES: [u64; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// What stands at the end of the first page.
const MAGIC: &[u8; 10] = b"SWAPSPACE2";

/// What stood there until Linux 2.4, behind a map of pages.
const OLD_MAGIC: &[u8; 10] = b"SWAP-SPACE";

/// What stands there instead while a hibernated system sleeps in the area.
const SLEEPING: [&[u8]; 4] = [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];

/// The same, at the beginning of the first page, whose end looks as ever then.
const TUX_ON_ICE: &[u8] = &[0xed, 0xc3, 0x02, 0xe9, 0x98, 0x56, 0xe5, 0x0c];

/// Where the header begins, behind room for boot code.
const HEADER: u64 = 1024;

/// Where the list of bad pages begins. It ends before the signature.
const BAD_PAGES: u64 = 1536;

/// What the first page says, from byte 1024 on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
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
    /// 1068: zeros, up to the list of bad pages.
    padding: [u8; 468],
}

const _: () = assert!(size_of::<RawHeader>() == 512);

/// Whether a page of that size ends with a word.
fn ends_so(view: View<'_>, page_size: u64, word: &[u8]) -> Answer {
    view.has(page_size.minus(to_u64(MAGIC.len())), word)
}

/// Whether a page of any size does.
fn is_signed(view: View<'_>, word: &[u8]) -> Answer {
    answer::any(PAGE_SIZES.map(|size| ends_so(view, size, word)))
}

/// Whether a hibernated system sleeps in it.
pub(in crate::volumes) fn is_sleeping(view: View<'_>) -> Answer {
    let words = SLEEPING.iter().map(|word| is_signed(view, word));
    answer::any(words.chain([view.has(0, TUX_ON_ICE)]))
}

fn is(view: View<'_>) -> Answer {
    answer::any([
        is_signed(view, MAGIC),
        is_signed(view, OLD_MAGIC),
        is_sleeping(view),
    ])
}

/// The first page is in use, with the list of bad pages in it; what was swapped out is of no use once nobody uses
/// the area.
fn read(view: View<'_>) -> Result<Found, Doubt> {
    if is_sleeping(view)? {
        return Err(Doubt::State("it holds a hibernated system"));
    }
    let mut sizes = Vec::new();
    for size in PAGE_SIZES {
        if ends_so(view, size, MAGIC)? {
            sizes.push(size);
        }
    }
    let page_size = match *sizes {
        [size] => size,
        [_, _, ..] => return Err(Doubt::State("it has swap signatures for two page sizes")),
        [] => {
            return Ok(Found::named("swap (version 0)", Usage::Opaque));
        }
    };
    let header: RawHeader = view.structure("swap header", HEADER)?;
    check(view, &header, page_size)?;
    let pages = u64::from(header.last_page.get()).plus(1);
    let size = pages.times(page_size);
    view.holds("swap area", 0, size)?;
    let mut map = MapBuilder::all_free(size);
    map.used(0..page_size, Reason::Metadata);
    Ok(Found {
        name: "swap",
        label: fields::label(&header.volume_name),
        details: Vec::new(),
        content: Usage::Mapped(map.build()),
    })
}

/// What Linux demands of the first page, and what mkswap makes of it: something else there may be the beginning of a
/// format that left the header as it was.
fn check(view: View<'_>, header: &RawHeader, page_size: u64) -> Result<(), Doubt> {
    let field = |field, found: u32, expected| {
        Err(Doubt::Field {
            structure: "swap header",
            at: view.position(HEADER),
            field,
            found: found.into(),
            expected,
        })
    };
    let room = page_size.minus(BAD_PAGES).minus(to_u64(MAGIC.len()));
    let (version, last_page, bad) = (
        header.version.get(),
        header.last_page.get(),
        header.nr_badpages.get(),
    );
    if version != 1 {
        return field("version", version, Expected::Exactly(1));
    }
    if last_page == 0 {
        return field("last_page", last_page, Expected::AtLeast(1));
    }
    if u64::from(bad) > room / 4 {
        return field("nr_badpages", bad, Expected::AtMost(room / 4));
    }
    let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    if !is_blank(&header.padding) || !is_blank(&view.bytes("boot code", 0, HEADER)?) {
        return Err(Doubt::State("there is other data around its header"));
    }
    Ok(())
}
