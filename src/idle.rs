//! What is costly to make and can be used again.

use std::sync::{Mutex, PoisonError};

/// A store of things that nobody uses at the moment; there are as many as were ever in use at the same time.
#[derive(Debug)]
pub(crate) struct Idle<T> {
    things: Mutex<Vec<T>>,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        let things = Mutex::default();
        Self { things }
    }
}

impl<T> Idle<T> {
    /// Takes one, if there is any.
    pub(crate) fn take(&self) -> Option<T> {
        self.lock().pop()
    }

    /// Takes one back.
    pub(crate) fn give(&self, thing: T) {
        self.lock().push(thing);
    }

    /// Lends one, which is made if there is none.
    pub(crate) fn with<R>(&self, make: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let mut thing = self.take().unwrap_or_else(make);
        let result = work(&mut thing);
        self.give(thing);
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<T>> {
        // A list of idle things is as good after a panic elsewhere as before.
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
