//! What images list, and their tables do not have.

use super::layers::Layers;
use super::origin::of;
use crate::error::{Corrupt, Error, Result};
use crate::formats::Chain;
use crate::formats::qcow2::structures::mapping::Mapping;
use crate::units::{Exact, GuestOffset};

/// Refuses images of which the tables have lost a cluster that is part of the disk: what lies behind it would take its
/// place. Of the first `merged` of them.
///
/// # Errors
///
/// - [`Corrupt::LostCluster`], with the path of an image behind the first.
/// - Those of [`Chain::place_at`].
pub(super) fn refuse_lost(chain: &Chain, layers: &Layers<'_>, merged: usize, size: u64) -> Result<()> {
    for depth in 0..merged {
        let Some(image) = layers.image(depth) else {
            continue;
        };
        let geometry = image.header().geometry();
        let mut tables = image.walk(image.active());
        // Where it is known that there is something.
        let mut known = 0..0_u64;
        layers.each_listed(depth, |cluster| {
            let start = geometry.start_of(cluster).0;
            if known.contains(&start) {
                return Ok(());
            }
            let run = tables.run_at(GuestOffset(start), u64::MAX);
            let run = run.map_err(|error| of(chain, depth, error))?;
            match run.mapping {
                Mapping::Data(_) | Mapping::Compressed(_) => {
                    known = start..start.plus(run.length);
                    Ok(())
                }
                Mapping::Unallocated | Mapping::Zero | Mapping::ZeroAllocated(_) => {
                    let end = start.plus(geometry.cluster_size());
                    let lost = start..end.min(geometry.size()).min(size);
                    if is_seen(chain, depth, &lost)? {
                        let lost = lost.into();
                        return Err(of(chain, depth, Error::from(Corrupt::LostCluster { lost })));
                    }
                    Ok(())
                }
            }
        })?;
    }
    Ok(())
}

/// Whether any of a range of the disk is not hidden by an image in front of that of number `depth`.
fn is_seen(chain: &Chain, depth: usize, range: &std::ops::Range<u64>) -> Result<bool> {
    let mut at = range.start;
    while at < range.end {
        let run = chain.place_at(GuestOffset(at), range.end.minus(at))?;
        if run.depth >= depth {
            return Ok(true);
        }
        at.increase(run.length.max(1));
    }
    Ok(false)
}
