//! Work on many threads, results in order, memory bounded. Of qcow2 it knows the clusters, and what they are
//! compressed with; nothing of where anything goes.

pub mod buffers;
pub mod compress;
pub mod encode;
mod stroke;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, RecvError, sync_channel};

use rayon::ThreadPool;

use crate::error::{Action, Error, Result};
use crate::units::Exact;

/// How many workers there are at most unless more are asked for: one reads and hashes as fast as another thread
/// writes.
const MAX_WORKERS: usize = 8;

/// How many there are at most where they compress: each has some MiB of its own.
const MAX_COMPRESSORS: usize = 32;

/// As many workers as were asked for, or one for each processor but that of the thread that takes the results:
/// it is the one which the others wait for.
///
/// # Errors
///
/// [`Error::Io`] if the system has no room for them.
pub fn workers(threads: Option<NonZeroUsize>) -> Result<ThreadPool> {
    pool(threads, processors().minus(1), MAX_WORKERS)
}

/// As many workers as were asked for, or one for each processor: where the work takes longer than taking its
/// results.
///
/// # Errors
///
/// [`Error::Io`] if the system has no room for them.
pub fn readers(threads: Option<NonZeroUsize>) -> Result<ThreadPool> {
    pool(threads, processors(), MAX_WORKERS)
}

/// As many workers as were asked for, or one for each processor: where the work takes far longer than anything else,
/// so that it pays to have all of a large machine.
///
/// # Errors
///
/// [`Error::Io`] if the system has no room for them.
pub fn compressors(threads: Option<NonZeroUsize>) -> Result<ThreadPool> {
    pool(threads, processors(), MAX_COMPRESSORS)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// As many as were asked for, or `unless_asked`, but one at least and `most` at most.
fn pool(threads: Option<NonZeroUsize>, unless_asked: usize, most: usize) -> Result<ThreadPool> {
    let threads = threads.map_or(unless_asked.clamp(1, most), NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    // As text: its source says the same again.
    let failed = |error: rayon::ThreadPoolBuildError| io::Error::other(error.to_string());
    pool.map_err(|error| Error::target_io(Action::StartWorkers, failed(error)))
}

/// Does `work` on every job on the threads of `pool` and hands the results to `take`, on the calling thread and
/// in the order of the jobs. At most `in_flight` (1 or more) jobs are begun and not yet taken.
///
/// # Errors
///
/// The error of the earliest job that fails, or the first of `take`. No further job is begun then; those under
/// way end first, and what they found is dropped.
pub fn in_order<J: Send, T: Send>(
    pool: &ThreadPool,
    in_flight: usize,
    jobs: impl IntoIterator<Item = J>,
    work: impl Fn(J) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let work = &work;
    // `in_place`: this thread only waits and takes, so that it never holds up a worker.
    pool.in_place_scope(|scope| {
        let mut queue: VecDeque<Receiver<Result<T>>> = VecDeque::with_capacity(in_flight);
        let mut take_first = |queue: &mut VecDeque<Receiver<Result<T>>>| match queue.pop_front() {
            Some(receiver) => match receiver.recv() {
                Ok(result) => result.and_then(&mut take).map(|()| More::Yes),
                // A job that panicked has dropped its sender; the scope passes the panic on when it ends.
                Err(RecvError) => Ok(More::No),
            },
            None => Ok(More::No),
        };
        for job in jobs {
            if queue.len() >= in_flight && take_first(&mut queue)? == More::No {
                return Ok(());
            }
            let (sender, receiver) = sync_channel(1);
            queue.push_back(receiver);
            scope.spawn(move |_| {
                // Nobody is left to take the result once an earlier job has failed.
                let _ = sender.send(work(job));
            });
        }
        while take_first(&mut queue)? == More::Yes {}
        Ok(())
    })
}

/// Whether there is anything left to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::error::Corrupt;

    fn pool(threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    }

    fn failure(at: u64) -> Error {
        Corrupt::Disappeared { at }.into()
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut taken = Vec::new();
        let work = |job: u64| {
            std::thread::sleep(Duration::from_micros(job * 7919 % 300));
            Ok(job)
        };
        in_order(&pool(4), 8, 0..500, work, |result| {
            taken.push(result);
            Ok(())
        })
        .unwrap();
        assert!(taken.into_iter().eq(0..500));
    }

    #[test]
    fn the_earliest_failure_is_the_one_reported() {
        // Job 7 fails at once, job 6 late.
        let work = |job: u64| match job {
            6 => {
                std::thread::sleep(Duration::from_millis(50));
                Err(failure(6))
            }
            7 => Err(failure(7)),
            _ => Ok(()),
        };
        let error = in_order(&pool(4), 8, 0..1000, work, |()| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), failure(6).to_string());
    }

    #[test]
    fn no_more_jobs_are_begun_than_may_be_in_flight() {
        let (begun, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_| {
            let ahead = begun.fetch_add(1, Ordering::SeqCst) - taken.load(Ordering::SeqCst);
            assert!(ahead < 3, "{ahead} jobs were under way already");
            Ok(())
        };
        in_order(&pool(4), 3, 0..200, work, |()| {
            taken.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_panic_of_a_worker_ends_the_work_and_is_passed_on() {
        let begun = AtomicUsize::new(0);
        let work = |job: u32| {
            begun.fetch_add(1, Ordering::SeqCst);
            assert_ne!(job, 5, "for this test");
            Ok(())
        };
        let run = || in_order(&pool(2), 4, 0..1_000_000, work, |()| Ok(()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        assert!(begun.load(Ordering::SeqCst) < 20);
    }

    #[test]
    fn a_failure_to_take_stops_the_jobs() {
        let begun = AtomicUsize::new(0);
        let work = |_| Ok(begun.fetch_add(1, Ordering::SeqCst));
        assert!(in_order(&pool(2), 4, 0..1_000_000, work, |_| Err(failure(0))).is_err());
        assert!(begun.load(Ordering::SeqCst) <= 4);
    }
}
