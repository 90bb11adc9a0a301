//! Where logical volumes lie on a physical volume, and what tells what of them is in use.

use std::collections::HashMap;
use std::ops::Range;

use super::group::Physical;
use super::logical::{Logical, Pool, Segment, Stripe};
use super::thin;
use crate::disk::Segments;
use crate::units::{Exact, length, to_u64};
use crate::volumes::doubt::Doubt;
use crate::volumes::map::AllocationMap;
use crate::volumes::region::{Detail, Part};
use crate::volumes::scheme::{Content, Volume};
use crate::volumes::view::View;

/// How many pieces the volumes of a physical volume may lie in together, so that they are looked into: a striped one
/// lies in many.
const MAX_PIECES: u64 = 1 << 18;

/// The logical volumes of a group, as one of its physical volumes has them.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// The physical volume.
    view: View<'a>,
    physical: &'a Physical,
    logical: &'a [Logical<'a>],
    /// By name: the volumes that are made of a volume, or depend on it.
    needed_by: HashMap<&'a str, Vec<&'a Logical<'a>>>,
}

impl<'a> Layout<'a> {
    pub(super) fn of(view: View<'a>, physical: &'a Physical, logical: &'a [Logical<'a>]) -> Self {
        let mut needed_by = HashMap::<_, Vec<&Logical<'_>>>::new();
        for other in logical {
            for name in other.needs() {
                let others = needed_by.entry(name).or_default();
                if others.last().is_none_or(|last| last.name != other.name) {
                    others.push(other);
                }
            }
        }
        Self {
            view,
            physical,
            logical,
            needed_by,
        }
    }

    /// The logical volumes, as far as they lie here. Those of which nothing does are left out.
    pub(super) fn volumes(&self) -> Vec<Volume> {
        let (mut volumes, mut pieces) = (Vec::new(), 0_u64);
        for volume in self.logical {
            let laid = self.laid_out(volume, MAX_PIECES.minus(pieces));
            let here = || {
                let stripes = volume.stripes().filter(|stripe| self.is_here(stripe));
                Segments::new(stripes.map(|stripe| self.bytes(stripe)))
            };
            let (content, segments, is_complete) = match self.content(volume, laid.as_ref()) {
                Ok(content) => {
                    pieces.increase(laid.as_ref().map_or(0, |laid| to_u64(laid.ranges().len())));
                    let is_complete = laid.is_some();
                    (content, laid.or_else(here), is_complete)
                }
                Err(why) => {
                    let here = here();
                    // Stripes that are listed one behind the other are not in the order of the volume.
                    let is_complete = laid.is_some() && laid == here;
                    (Content::Whole(why), here, is_complete)
                }
            };
            let Some(segments) = segments.filter(|segments| segments.size() > 0) else {
                continue;
            };
            volumes.push(Volume {
                segments,
                is_complete,
                part: Part::LogicalVolume {
                    name: volume.name.to_owned(),
                },
                details: vec![
                    Detail::new("uuid", volume.uuid),
                    Detail::new("segments", kinds(volume)),
                ],
                content,
            });
        }
        volumes
    }

    /// What tells what of a volume is in use, or why nothing does. It may not be known where it lies.
    fn content(&self, volume: &Logical<'_>, laid: Option<&Segments>) -> Result<Content, String> {
        let needed_by = self.needed_by.get(volume.name).map_or(&[][..], Vec::as_slice);
        if let Some(pool) = pool_of_data(volume, needed_by)
            && let Some(data) = laid
            && let Some(metadata) = self.alone_in_pool(pool.metadata)
        {
            return Ok(Content::Mapped("thin pool", self.thin(&metadata, pool, data)));
        }
        if let Some(other) = needed_by.first() {
            return Err(match other.special() {
                Some("snapshot") => {
                    "it belongs to a snapshot: a snapshot still reads what its origin has freed".to_owned()
                }
                Some(kind) => format!("it is a part of {:?}, which is of type {kind}", other.name),
                None => format!("{:?} lies on it", other.name),
            });
        }
        if let Some(kind) = volume.special() {
            return Err(format!("a segment of it is of type {kind}"));
        }
        if !volume.is_visible || !volume.is_plain {
            return Err("it is hidden or locked, or has an unknown status".to_owned());
        }
        if !volume.stripes().all(|stripe| self.is_here(stripe)) {
            return Err("a part of it lies elsewhere".to_owned());
        }
        match laid {
            Some(_) => Ok(Content::Unknown),
            None => Err("it lies in too many pieces".to_owned()),
        }
    }

    /// Where the metadata of a thin pool lies, if all of it is here and nothing else has to do with it.
    fn alone_in_pool(&self, name: &str) -> Option<Segments> {
        let volume = self.logical.iter().find(|volume| volume.name == name)?;
        let is_alone = self.needed_by.get(name).is_some_and(|others| others.len() == 1);
        let is_as_it_is = is_alone && volume.is_plain && volume.special().is_none();
        is_as_it_is.then(|| self.laid_out(volume, MAX_PIECES)).flatten()
    }

    fn thin(&self, metadata: &Segments, pool: &Pool<'_>, data: &Segments) -> Result<AllocationMap, Doubt> {
        self.view
            .with_volume(metadata, |metadata| thin::map(metadata, pool.format, data.size()))?
    }

    fn is_here(&self, stripe: &Stripe<'_>) -> bool {
        stripe.on == self.physical.name
    }

    fn bytes(&self, stripe: &Stripe<'_>) -> Range<u64> {
        self.physical.place(stripe.extents.start)..self.physical.place(stripe.extents.end)
    }

    /// Where a volume's bytes lie, in the order of the volume, if all of them are here and in no more than so many
    /// pieces.
    fn laid_out(&self, volume: &Logical<'_>, most: u64) -> Option<Segments> {
        if volume.special().is_some() || !volume.stripes().all(|stripe| self.is_here(stripe)) {
            return None;
        }
        let mut ranges = Vec::new();
        for segment in &volume.segments {
            let stripes: Vec<_> = segment.stripes.iter().map(|stripe| self.bytes(stripe)).collect();
            let Some(stripe_size) = segment.stripe_size else {
                ranges.extend(stripes);
                continue;
            };
            let step = stripe_size.checked_mul(512)?;
            // All of them are of one length.
            let each = stripes.first().map_or(0, length);
            let rows = each
                .checked_div(step)
                .filter(|rows| rows.checked_mul(step) == Some(each))?;
            let pieces = rows.checked_mul(to_u64(stripes.len()))?;
            if to_u64(ranges.len()).checked_add(pieces)? > most {
                return None;
            }
            for row in 0..rows {
                let at = row.times(step);
                ranges.extend(stripes.iter().map(|stripe| {
                    let start = stripe.start.plus(at);
                    start..start.plus(step)
                }));
            }
        }
        let is_few = to_u64(ranges.len()) <= most;
        is_few.then(|| Segments::new(ranges)).flatten()
    }
}

/// The thin pool that has its data in a volume, if nothing else has to do with that.
fn pool_of_data<'b>(volume: &Logical<'_>, needed_by: &[&'b Logical<'b>]) -> Option<&'b Pool<'b>> {
    let [pool] = needed_by else {
        return None;
    };
    let [segment] = &*pool.segments else {
        return None;
    };
    let made_of = segment.pool.as_ref()?;
    let is_data = made_of.data == volume.name && made_of.metadata != volume.name;
    (is_data && pool.is_plain && volume.is_plain && volume.special().is_none()).then_some(made_of)
}

/// The kinds of a volume's segments, as LVM calls them, each once.
fn kinds(volume: &Logical<'_>) -> String {
    let mut kinds: Vec<_> = volume.segments.iter().map(kind).collect();
    kinds.dedup();
    kinds.join(", ")
}

fn kind<'a>(segment: &Segment<'a>) -> &'a str {
    if segment.stripes.len() == 1 {
        "linear"
    } else {
        segment.kind
    }
}
