//! An image made in two passes, because its first bytes are known last: one to learn them, one to write all in order.

use std::fs::File;

use super::WriteAt;
use crate::error::{Corrupt, Result};
use crate::units::{Exact, HostOffset, to_u64, to_usize};

/// The first pass: only the front of the image is kept.
#[derive(Debug)]
pub struct FirstPass<'a, W> {
    front: Vec<u8>,
    /// Where the image will go.
    writer: &'a mut W,
}

impl<'a, W: WriteAt> FirstPass<'a, W> {
    /// Keeps the first `length` bytes. What is behind them must be written in ascending order, and is dropped.
    pub fn new(length: u64, writer: &'a mut W) -> Self {
        let front = vec![0; to_usize(length)];
        Self { front, writer }
    }

    /// Writes the front, and begins the second pass: all that is behind the front is expected again, and the front once
    /// more at the end.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn second(self) -> Result<SecondPass<'a, W>> {
        let Self { front, writer } = self;
        writer.write_at(&front, HostOffset(0))?;
        Ok(SecondPass { front, writer })
    }
}

impl<W: WriteAt> WriteAt for FirstPass<'_, W> {
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        if let Some(room) = part_of(&mut self.front, at, bytes.len()) {
            room.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn set_len(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn scratch(&self) -> Result<File> {
        self.writer.scratch()
    }
}

/// The second pass: the image is written from its beginning to its end.
#[derive(Debug)]
pub struct SecondPass<'a, W> {
    /// What was written in advance.
    front: Vec<u8>,
    writer: &'a mut W,
}

impl<W: WriteAt> WriteAt for SecondPass<'_, W> {
    /// # Errors
    ///
    /// [`Corrupt::Changed`] if the front does not come out as it did in the first pass: then it is not
    /// that of the image behind it.
    fn write_at(&mut self, bytes: &[u8], at: HostOffset) -> Result<()> {
        match part_of(&mut self.front, at, bytes.len()) {
            Some(before) if before == bytes => Ok(()),
            Some(_) => Err(Corrupt::Changed.into()),
            None => self.writer.write_at(bytes, at),
        }
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.writer.set_len(length)
    }

    fn scratch(&self) -> Result<File> {
        self.writer.scratch()
    }
}

/// The part of the front that is written; none if the write is behind it.
fn part_of(front: &mut [u8], at: HostOffset, length: usize) -> Option<&mut [u8]> {
    let is_behind = at.0 >= to_u64(front.len());
    let end = to_usize(at.0).plus(length);
    let part = front.get_mut(to_usize(at.0)..end);
    assert!(
        is_behind || part.is_some(),
        "no write goes across the end of the front"
    );
    part.filter(|_| !is_behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::output::MemoryImage;

    /// Data first, the front last, as a layout does it.
    fn write(image: &mut impl WriteAt, front: &[u8]) -> Result<()> {
        image.write_at(b"data", HostOffset(8))?;
        image.write_at(b"more", HostOffset(12))?;
        image.set_len(20)?;
        image.write_at(front, HostOffset(2))
    }

    #[test]
    fn the_front_is_written_first_and_comes_out_the_same() {
        let mut memory = MemoryImage::default();
        let mut first = FirstPass::new(8, &mut memory);
        write(&mut first, b"front").unwrap();
        assert!(first.writer.bytes.is_empty());

        let mut second = first.second().unwrap();
        assert_eq!(second.writer.bytes, b"\0\0front\0");
        write(&mut second, b"front").unwrap();

        assert_eq!(memory.bytes, b"\0\0front\0datamore\0\0\0\0");
    }

    #[test]
    fn another_front_is_an_error() {
        let mut memory = MemoryImage::default();
        let mut first = FirstPass::new(8, &mut memory);
        write(&mut first, b"front").unwrap();

        let error = write(&mut first.second().unwrap(), b"Front").unwrap_err();

        assert!(matches!(error, Error::Corrupt(Corrupt::Changed)));
    }
}
