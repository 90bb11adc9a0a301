//! Logical volumes and their segments. Source: LVM2, `lib/format_text/import_vsn1.c`, `lib/metadata/segtype.h`.

use std::ops::Range;

use super::text::{Section, Value};
use super::thin;
use crate::units::{claimed_end, to_u64};
use crate::volumes::doubt::Doubt;

/// A logical volume.
#[derive(Debug)]
pub(super) struct Logical<'a> {
    pub(super) name: &'a str,
    pub(super) uuid: &'a str,
    /// It is not a part of another one.
    pub(super) is_visible: bool,
    /// It is as volumes are that are in use, or that could be.
    pub(super) is_plain: bool,
    /// In the order of the volume, without gaps.
    pub(super) segments: Vec<Segment<'a>>,
}

/// A part of a logical volume that lies on other volumes in one way.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    /// Such as `striped`.
    pub(super) kind: &'a str,
    /// How many extents it has.
    pub(super) extents: u64,
    /// Of one that is striped: where its stripes lie.
    pub(super) stripes: Vec<Stripe<'a>>,
    /// How much of each stripe follows on that of another, in sectors; none if there is one stripe only.
    pub(super) stripe_size: Option<u64>,
    /// Of one that is a thin pool: what it is made of.
    pub(super) pool: Option<Pool<'a>>,
    /// All else that it names: other volumes, and perhaps something that only looks like one.
    pub(super) names: Vec<&'a str>,
}

/// What a thin pool is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool<'a> {
    /// The volume that tells which block is whose.
    pub(super) metadata: &'a str,
    /// The volume with the blocks.
    pub(super) data: &'a str,
    pub(super) format: thin::Pool,
}

/// A stripe of a segment, or all of it.
#[derive(Clone, Debug)]
pub(super) struct Stripe<'a> {
    /// The physical or logical volume that it lies on.
    pub(super) on: &'a str,
    /// Its extents there.
    pub(super) extents: Range<u64>,
}

/// A linear volume is one with one stripe.
pub(super) const STRIPED: &str = "striped";

/// What may stand in `type`. What all else would mean cannot be known.
const KINDS: &[&str] = &[
    STRIPED,
    "error",
    "zero",
    "snapshot",
    "mirror",
    "raid0",
    "raid0_meta",
    "raid1",
    "raid4",
    "raid5",
    "raid5_la",
    "raid5_ls",
    "raid5_n",
    "raid5_ra",
    "raid5_rs",
    "raid6",
    "raid6_la_6",
    "raid6_ls_6",
    "raid6_n_6",
    "raid6_nc",
    "raid6_nr",
    "raid6_ra_6",
    "raid6_rs_6",
    "raid6_zr",
    "raid10",
    "raid10_near",
    "thin",
    "thin-pool",
    "cache",
    "cache-pool",
    "writecache",
    "integrity",
    "vdo",
    "vdo-pool",
];

/// What may follow the type of a segment that is not striped, each behind a plus sign: the format of a cache's metadata,
/// a cache in one volume, and metadata of a thin pool that is not used to its end.
const FLAGS: &[&str] = &["METADATA_FORMAT", "CACHE_USES_CACHEVOL", "CROP_METADATA"];

/// What a logical volume may be said to be without being more than its segments.
const PLAIN_STATUS: &[&str] = &["READ", "WRITE", "VISIBLE", "FIXED_MINOR"];
const PLAIN_FLAGS: &[&str] = &["ACTIVATION_SKIP"];

impl<'a> Logical<'a> {
    pub(super) fn of(name: &'a str, section: &'a Section) -> Result<Self, Doubt> {
        let fault = |fault| Doubt::Named {
            what: "logical volume",
            name: name.to_owned(),
            fault,
        };
        let incomplete = || fault("its metadata is incomplete");
        let status = section.list("status").ok_or_else(incomplete)?;
        let is_visible = status
            .iter()
            .any(|word| *word == Value::Text("VISIBLE".to_owned()));
        let is_plain = section.has_only("status", PLAIN_STATUS) && section.has_only("flags", PLAIN_FLAGS);
        let count = section.number("segment_count").ok_or_else(incomplete)?;
        if count != to_u64(section.sections().count()) {
            return Err(fault("it counts more or fewer segments than it has"));
        }
        let (mut segments, mut next) = (Vec::new(), 0);
        for number in 1..=count {
            let segment = section
                .section(&format!("segment{number}"))
                .ok_or_else(incomplete)?;
            let start = segment.number("start_extent").ok_or_else(incomplete)?;
            if start != next {
                return Err(fault("its segments do not follow each other"));
            }
            let segment = Segment::of(segment).map_err(fault)?;
            next = claimed_end(next, segment.extents);
            segments.push(segment);
        }
        Ok(Self {
            name,
            uuid: section.text("id").ok_or_else(incomplete)?,
            is_visible,
            is_plain,
            segments,
        })
    }

    /// All stripes of its segments.
    pub(super) fn stripes(&self) -> impl Iterator<Item = &Stripe<'a>> {
        self.segments.iter().flat_map(|segment| &segment.stripes)
    }

    /// The first of its segments of another kind than those that lie on other volumes as they are.
    pub(super) fn special(&self) -> Option<&'a str> {
        let mut kinds = self.segments.iter().map(|segment| segment.kind);
        kinds.find(|kind| *kind != STRIPED)
    }

    /// The volumes that it is made of or depends on, and perhaps something that only looks like one.
    pub(super) fn needs(&self) -> impl Iterator<Item = &'a str> {
        let names = self.segments.iter().flat_map(|segment| &segment.names).copied();
        self.stripes().map(|stripe| stripe.on).chain(names)
    }
}

impl<'a> Segment<'a> {
    fn of(section: &'a Section) -> Result<Self, &'static str> {
        let kind = section.text("type").ok_or("a segment has no type")?;
        let mut words = kind.split('+');
        let kind = words.next().unwrap_or_default();
        let is_plain = words.clone().next().is_none();
        let is_known = KINDS.contains(&kind) && words.all(|flag| FLAGS.contains(&flag));
        if !is_known || (kind == STRIPED && !is_plain) {
            return Err("a segment has an unknown type");
        }
        let extents = section.number("extent_count").filter(|count| *count > 0);
        let extents = extents.ok_or("a segment has no extents")?;
        if kind != STRIPED {
            return Ok(Self {
                kind,
                extents,
                stripes: Vec::new(),
                stripe_size: None,
                pool: (kind == "thin-pool").then(|| pool(section)).flatten(),
                names: names(section),
            });
        }
        let stripes = stripes(section, extents)?;
        let stripe_size = section.number("stripe_size").filter(|size| *size > 0);
        if stripes.len() > 1 && stripe_size.is_none() {
            return Err("the stripes of a segment have no size");
        }
        Ok(Self {
            kind,
            extents,
            stripe_size: stripe_size.filter(|_| stripes.len() > 1),
            stripes,
            pool: None,
            names: Vec::new(),
        })
    }
}

/// What a thin pool is made of, if that is told.
fn pool(section: &Section) -> Option<Pool<'_>> {
    Some(Pool {
        metadata: section.text("metadata")?,
        data: section.text("pool")?,
        format: thin::Pool {
            chunk_size: section.number("chunk_size")?,
            transaction_id: section.number("transaction_id")?,
        },
    })
}

/// All text in a segment but its type, which may be the name of a volume as well.
fn names(section: &Section) -> Vec<&str> {
    let values = section.entries().filter(|(name, _)| *name != "type");
    values.flat_map(|(_, value)| value.words()).collect()
}

/// The stripes of a segment: pairs of a name and the first extent there.
fn stripes(section: &Section, extents: u64) -> Result<Vec<Stripe<'_>>, &'static str> {
    const FAULT: &str = "a segment has malformed stripes";
    let list = section.list("stripes").ok_or(FAULT)?;
    let count = section
        .number("stripe_count")
        .filter(|count| *count > 0)
        .ok_or(FAULT)?;
    let (pairs, rest) = list.as_chunks::<2>();
    let each = extents
        .checked_div(count)
        .filter(|each| each.checked_mul(count) == Some(extents));
    let (true, Some(each)) = (rest.is_empty() && to_u64(pairs.len()) == count, each) else {
        return Err(FAULT);
    };
    let mut stripes = Vec::new();
    for pair in pairs {
        let [Value::Text(on), Value::Number(first)] = pair else {
            return Err(FAULT);
        };
        let first = u64::try_from(*first).map_err(|_| FAULT)?;
        let extents = first..claimed_end(first, each);
        stripes.push(Stripe { on, extents });
    }
    Ok(stripes)
}
