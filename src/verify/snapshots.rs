//! Internal snapshots: their tables are walked, and the streams that only they have are decompressed.

use std::ops::Range;
use std::sync::Arc;

use super::active::end_of_lost;
use super::findings::{Fault, Findings, Found};
use super::verifier::{Done, Verifier};
use crate::error::{Error, Result};
use crate::formats::Decoders;
use crate::formats::qcow2::structures::mapping::{Mapping, Stream};
use crate::formats::qcow2::structures::snapshot::Snapshot;
use crate::formats::qcow2::{Cursor, View};
use crate::pipeline;
use crate::units::{Exact, GuestOffset, to_usize};

/// What there is to do.
enum Job {
    /// Decompressing these clusters.
    Streams(Vec<(Range<u64>, Stream)>),
    /// Nothing: nobody can tell where they are.
    Lost(Found),
}

/// Finds what a snapshot does not share with the states that were looked at before.
struct Jobs<'a> {
    verifier: &'a Verifier<'a>,
    view: View,
    cursor: Cursor<'a>,
    /// Along the active state, and the snapshot before this one.
    others: Vec<Cursor<'a>>,
    at: u64,
    /// What was met on the way to the end of a batch.
    lost: Option<Found>,
}

impl Verifier<'_> {
    /// Walks the tables of all snapshots and decompresses what only they have.
    pub(super) fn snapshots(&self, findings: &mut Findings) -> Result<Done> {
        let mut done = Done::default();
        let mut others = vec![self.image.active()];
        for snapshot in self.image.snapshots() {
            // After a damaged entry there are no more.
            let snapshot = match snapshot {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    findings.add_structure(Fault::of(error), None);
                    break;
                }
            };
            let name = name(&snapshot);
            match self.image.view_of(&snapshot) {
                Ok(view) => {
                    done.add(self.snapshot(view, &others, &name, findings)?);
                    others.truncate(1);
                    others.push(view);
                }
                Err(error) => findings.add_structure(Fault::of(error), Some(name)),
            }
        }
        Ok(done)
    }

    fn snapshot(
        &self,
        view: View,
        others: &[View],
        name: &Arc<str>,
        findings: &mut Findings,
    ) -> Result<Done> {
        let jobs = Jobs {
            verifier: self,
            view,
            cursor: self.image.walk(view),
            others: others.iter().map(|other| self.image.walk(*other)).collect(),
            at: 0,
            lost: None,
        };
        let decoders = Decoders::default();
        let mut done = Done::default();
        let take = |(faults, decoded): (Vec<Found>, Done)| {
            for found in faults {
                findings.add(found, Some(name));
            }
            self.progress.advance(decoded.read);
            done.add(decoded);
            Ok(())
        };
        let work = |job| {
            Ok(match job {
                Job::Lost(found) => (vec![found], Done::default()),
                Job::Streams(streams) => self.streams(&decoders, streams),
            })
        };
        pipeline::in_order(&self.pool, self.in_flight, jobs, work, take)?;
        Ok(done)
    }

    fn streams(&self, decoders: &Decoders, streams: Vec<(Range<u64>, Stream)>) -> (Vec<Found>, Done) {
        let mut cluster = self
            .buffers
            .take(to_usize(self.image.header().geometry().cluster_size()));
        let (mut faults, mut done) = (Vec::new(), Done::default());
        for (range, stream) in streams {
            let decoded =
                decoders.with(|decoder| self.image.decode(decoder, stream, range.clone(), &mut cluster));
            match decoded {
                Ok(()) => {
                    done.streams.increase(1);
                    done.read.increase(stream.length);
                }
                Err(error) => faults.push(Found {
                    fault: Fault::of(error),
                    range,
                }),
            }
        }
        self.buffers.give(cluster);
        (faults, done)
    }
}

/// What the snapshot is called in messages.
fn name(snapshot: &Snapshot) -> Arc<str> {
    let name = if snapshot.name.is_empty() {
        &snapshot.id
    } else {
        &snapshot.name
    };
    Arc::from(name.as_str())
}

impl Iterator for Jobs<'_> {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        if let Some(found) = self.lost.take() {
            return Some(Job::Lost(found));
        }
        let image = self.verifier.image;
        let cluster_size = image.header().geometry().cluster_size();
        let most = self.verifier.batch.checked_div(cluster_size).unwrap_or(1);
        let mut streams = Vec::new();
        while self.at < self.view.size && streams.len() < to_usize(most) {
            let at = self.at;
            match self.cursor.run_at(GuestOffset(at), u64::MAX) {
                Ok(run) => {
                    self.at = at.plus(run.length);
                    if let Mapping::Compressed(stream) = run.mapping
                        && !self.is_known(at, stream)
                    {
                        streams.push((at..self.at, stream));
                    }
                }
                Err(error) => {
                    let reach = image.header().geometry().l2_reach();
                    self.at = end_of_lost(&error, at, reach).min(self.view.size);
                    if !self.is_told(at, &error) {
                        self.lost = Some(Found {
                            fault: Fault::of(error),
                            range: at..self.at,
                        });
                        break;
                    }
                }
            }
        }
        if streams.is_empty() {
            return self.lost.take().map(Job::Lost);
        }
        Some(Job::Streams(streams))
    }
}

impl Jobs<'_> {
    /// Whether another state has the same stream there.
    fn is_known(&mut self, at: u64, stream: Stream) -> bool {
        self.others.iter_mut().any(|other| {
            let run = other.run_at(GuestOffset(at), 1);
            run.is_ok_and(|run| run.mapping == Mapping::Compressed(stream))
        })
    }

    /// Whether another state shares the damage.
    fn is_told(&mut self, at: u64, error: &Error) -> bool {
        self.others.iter_mut().any(|other| {
            let run = other.run_at(GuestOffset(at), 1);
            run.is_err_and(|told| told.to_string() == error.to_string())
        })
    }
}
