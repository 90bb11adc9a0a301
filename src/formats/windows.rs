//! Pieces of tables, kept in memory as far as a budget goes that all files of a disk share.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::host::HostFile;
use crate::error::Result;
use crate::units::{Exact, HostOffset, to_u64, to_usize};

/// The size of a window, and what its offset is a multiple of, in bytes.
const WINDOW: u64 = 64 << 10;

/// How many windows are kept at most: 16 MiB of them.
const MAX_WINDOWS: usize = 256;

/// A piece of a file.
#[derive(Debug)]
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The big-endian number at `at`; none if that is not within it.
    pub(super) fn number_at(&self, at: HostOffset) -> Option<u64> {
        self.bytes_at(at).map(u64::from_be_bytes)
    }

    /// How many numbers from `at` on are 0, `limit` at most, as far as they are within it.
    pub(super) fn zeros_at(&self, at: HostOffset, limit: u64) -> u64 {
        let within = at.0.checked_sub(self.start).map(to_usize);
        let rest = within.and_then(|within| self.bytes.get(within..));
        let (numbers, _) = rest.unwrap_or_default().as_chunks::<8>();
        let zeros = numbers.iter().take(to_usize(limit));
        to_u64(zeros.take_while(|number| **number == [0; 8]).count())
    }

    /// The 8 bytes at `at`; none if they are not within it.
    pub(super) fn bytes_at(&self, at: HostOffset) -> Option<[u8; 8]> {
        let within = to_usize(at.0.checked_sub(self.start)?);
        self.bytes.get(within..)?.first_chunk().copied()
    }
}

/// What a walk along the tables of one image keeps in hand, for it needs that again for the next cluster.
#[derive(Debug, Default)]
pub(super) struct Hand {
    pub(super) l1: Option<Arc<Window>>,
    pub(super) l2: Option<Arc<Window>>,
    /// Number and place of the L2 table that was used last.
    pub(super) table: Option<(u64, Option<HostOffset>)>,
}

/// What the last walk had in hand, between two that may be of several threads: only the first finds it.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Hand>);

impl Spare {
    /// Lets a walk go on with it, and keeps what comes back.
    pub(super) fn with<T>(&self, walk: impl FnOnce(Hand) -> (T, Hand)) -> T {
        let hand = mem::take(&mut *self.lock());
        let (result, hand) = walk(hand);
        *self.lock() = hand;
        result
    }

    /// Tables do not change: what is kept is right even after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Hand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The windows that were used last, of all files of a disk.
#[derive(Debug, Default)]
pub(super) struct Windows {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    windows: HashMap<(u32, u64), (Arc<Window>, u64)>,
    clock: u64,
}

impl Windows {
    /// The window of a file that holds `at`. `number` tells the files of a disk apart.
    pub(super) fn get(&self, number: u32, file: &HostFile, at: HostOffset) -> Result<Arc<Window>> {
        let start = at.0 & !WINDOW.minus(1);
        let key = (number, start);
        if let Some(window) = self.lock().find(key) {
            return Ok(window);
        }
        let mut bytes = vec![0; to_usize(WINDOW)];
        let read = file.read(&mut bytes, HostOffset(start))?;
        bytes.truncate(read);
        let window = Arc::new(Window { start, bytes });
        self.lock().keep(key, &window);
        Ok(window)
    }

    /// Tables do not change: what is kept is right even after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&mut self, key: (u32, u64)) -> Option<Arc<Window>> {
        self.clock.increase(1);
        let (window, used) = self.windows.get_mut(&key)?;
        *used = self.clock;
        Some(Arc::clone(window))
    }

    fn keep(&mut self, key: (u32, u64), window: &Arc<Window>) {
        if self.windows.len() >= MAX_WINDOWS {
            let oldest = self.windows.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.windows.remove(&oldest);
            }
        }
        self.windows.insert(key, (Arc::clone(window), self.clock));
    }
}

const _: () = assert!(WINDOW.is_power_of_two() && WINDOW >= 16);
const _: () = assert!(to_u64(MAX_WINDOWS) * WINDOW <= 16 << 20);
