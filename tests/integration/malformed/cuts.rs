//! Files that end too soon: at every cluster, hence at every table, and in the middle of each.

use super::bases::{Base, Good};
use super::{Damage, Outcome, Row};

/// What is said of a file that ends too soon, wherever that is.
const WORDS: &[&str] = &[
    "is cut off by the end of the file",
    "expected an offset within the file",
    "does not fit",
    // A stream of which only the beginning is left.
    "compressed cluster at",
];

/// Every base, cut at every boundary of clusters and half a cluster behind it, and one byte before its end.
pub(super) fn rows(good: &[Good]) -> Vec<Row> {
    good.iter().flat_map(cuts).collect()
}

fn cuts(good: &Good) -> Vec<Row> {
    let length = good.bytes.len() as u64;
    let cluster = if good.base == Base::Extended { 65536 } else { 4096 };
    let boundaries = (cluster..length).step_by(cluster as usize);
    let cuts = boundaries
        .flat_map(|at| [at, at + cluster / 2])
        .chain([length - 1]);
    cuts.filter(|at| *at < length)
        .map(|at| Row {
            name: format!("{:?} cut at {at:#x}", good.base),
            base: good.base,
            damage: Damage::CutAt(at),
            outcome: Outcome::RefusedOrReads(WORDS),
        })
        .collect()
}
