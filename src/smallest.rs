//! What is too much for memory, in ascending order: as much at a time as there is room for.

use crate::units::Exact;

/// The smallest of the values that are put in, each once. What there is no room for is for the next round, in
/// which all are put in again.
#[derive(Debug)]
pub(crate) struct Smallest<T> {
    values: Vec<T>,
    room: usize,
    /// All up to here were among those of earlier rounds.
    done: Option<T>,
    /// Nothing behind this has room in this round.
    limit: Option<T>,
}

impl<T: Copy + Ord> Smallest<T> {
    /// With room for so many, 4 at least.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            values: Vec::with_capacity(room),
            room,
            done: None,
            limit: None,
        }
    }

    /// Puts one in.
    pub(crate) fn put(&mut self, value: T) {
        let is_done = self.done.is_some_and(|done| value <= done);
        if is_done || self.limit.is_some_and(|limit| value > limit) {
            return;
        }
        self.values.push(value);
        if self.values.len() >= self.room {
            self.make_room();
        }
    }

    /// Frees a quarter of it at least, lest every further value has all of them sorted.
    fn make_room(&mut self) {
        let most = self.room.minus(self.room / 4);
        self.sorted();
        if self.values.len() > most {
            self.values.truncate(most);
            self.limit = self.values.last().copied();
        }
    }

    /// Those of this round.
    pub(crate) fn sorted(&mut self) -> &[T] {
        self.values.sort_unstable();
        self.values.dedup();
        &self.values
    }

    /// Begins the next round, unless all had room in this one.
    pub(crate) fn go_on(&mut self) -> bool {
        self.values.clear();
        self.done = self.limit.take();
        self.done.is_some()
    }
}
