//! An image made in two passes, because its first bytes are known last: one to learn them, one to write all in order.

use std::fs::File;

use super::Sink;
use crate::error::{Action, Corrupt, Error, Result};
use crate::units::{HostOffset, to_u64, to_usize};

/// The first pass: only the front of the image is kept.
#[derive(Debug)]
pub struct FirstPass<'a, S> {
    front: Vec<u8>,
    /// Where the image will go.
    sink: &'a mut S,
}

impl<'a, S: Sink> FirstPass<'a, S> {
    /// Keeps the first `length` bytes. What is behind them must be written in ascending order, and is dropped.
    pub fn new(length: u64, sink: &'a mut S) -> Self {
        let front = vec![0; to_usize(length)];
        Self { front, sink }
    }

    /// Writes the front, and begins the second pass: all that is behind the front is expected again, and the front once
    /// more at the end.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn second(self) -> Result<SecondPass<'a, S>> {
        let Self { front, sink } = self;
        sink.write_at(&front, HostOffset(0))?;
        Ok(SecondPass { front, sink })
    }
}

impl<S: Sink> Sink for FirstPass<'_, S> {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        if let Some(room) = part_of(&mut self.front, at, bytes.len()) {
            room.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn read_at(&self, _: &mut [u8], at: HostOffset) -> Result<()> {
        Err(nothing_to_read(at))
    }

    fn set_len(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn scratch(&self) -> Result<File> {
        self.sink.scratch()
    }
}

/// The second pass: the image is written from its beginning to its end.
#[derive(Debug)]
pub struct SecondPass<'a, S> {
    /// What was written in advance.
    front: Vec<u8>,
    sink: &'a mut S,
}

impl<S: Sink> Sink for SecondPass<'_, S> {
    /// # Errors
    ///
    /// [`Corrupt::Changed`] if the front does not come out as it did in the first pass: then it is not
    /// that of the image behind it.
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        match part_of(&mut self.front, at, bytes.len()) {
            Some(before) if before == bytes => Ok(()),
            Some(_) => Err(Corrupt::Changed.into()),
            None => self.sink.write_at(bytes, at),
        }
    }

    fn read_at(&self, _: &mut [u8], at: HostOffset) -> Result<()> {
        Err(nothing_to_read(at))
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.sink.set_len(length)
    }

    fn scratch(&self) -> Result<File> {
        self.sink.scratch()
    }
}

/// The part of the front that is written; none if the write is behind it.
fn part_of(front: &mut [u8], at: HostOffset, length: usize) -> Option<&mut [u8]> {
    let is_behind = at.0 >= to_u64(front.len());
    let end = to_usize(at.0).saturating_add(length);
    let part = front.get_mut(to_usize(at.0)..end);
    assert!(
        is_behind || part.is_some(),
        "no write goes across the end of the front"
    );
    part.filter(|_| !is_behind)
}

fn nothing_to_read(at: HostOffset) -> Error {
    Error::target_io(Action::Read(at.0), std::io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::MemorySink;

    /// Data first, the front last, as a layout does it.
    fn write(sink: &mut impl Sink, front: &[u8]) -> Result<()> {
        sink.write_at(b"data", HostOffset(8))?;
        sink.write_at(b"more", HostOffset(12))?;
        sink.set_len(20)?;
        sink.write_at(front, HostOffset(2))
    }

    #[test]
    fn the_front_is_written_first_and_comes_out_the_same() {
        let mut memory = MemorySink::default();
        let mut first = FirstPass::new(8, &mut memory);
        write(&mut first, b"front").unwrap();
        assert!(first.sink.bytes.is_empty());

        let mut second = first.second().unwrap();
        assert_eq!(second.sink.bytes, b"\0\0front\0");
        write(&mut second, b"front").unwrap();

        assert_eq!(memory.bytes, b"\0\0front\0datamore\0\0\0\0");
    }

    #[test]
    fn another_front_is_an_error() {
        let mut memory = MemorySink::default();
        let mut first = FirstPass::new(8, &mut memory);
        write(&mut first, b"front").unwrap();

        let error = write(&mut first.second().unwrap(), b"Front").unwrap_err();

        assert!(matches!(error, Error::Corrupt(Corrupt::Changed)));
    }
}
