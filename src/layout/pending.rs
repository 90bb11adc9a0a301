//! What is to be written, joined into as few writes as possible.

use std::ops::Range;

use crate::error::Result;
use crate::output::WriteAt;
use crate::units::{HostOffset, to_u64};

/// A part of a buffer.
#[derive(Clone, Debug)]
pub(super) struct BufferPart<'b> {
    buffer: &'b [u8],
    range: Range<usize>,
}

impl<'b> BufferPart<'b> {
    pub(super) fn new(buffer: &'b [u8], range: Range<usize>) -> Self {
        Self { buffer, range }
    }

    // Ranges are counted along what the workers have put into the buffer.
    #[expect(
        clippy::indexing_slicing,
        reason = "a panic is better than a backup with a hole"
    )]
    pub(super) fn bytes(&self) -> &'b [u8] {
        &self.buffer[self.range.clone()]
    }
}

/// Consecutive bytes of a buffer that go to consecutive bytes of the image, and wait for more of them.
#[derive(Debug, Default)]
pub(super) struct Pending<'b> {
    waiting: Option<(BufferPart<'b>, HostOffset)>,
}

impl<'b> Pending<'b> {
    /// Where the first byte goes that is not written yet; none if there is no such byte.
    pub(super) fn start(&self) -> Option<HostOffset> {
        self.waiting.as_ref().map(|(_, host)| *host)
    }

    /// Adds a part that goes to `host`; what it does not follow is written.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub(super) fn put(
        &mut self,
        part: BufferPart<'b>,
        host: HostOffset,
        writer: &mut impl WriteAt,
    ) -> Result<()> {
        if let Some((last, at)) = &mut self.waiting {
            // Two clusters are apart in the buffer if zeros lie between them, in the image if tables do.
            let is_next = std::ptr::eq(last.buffer, part.buffer)
                && last.range.end == part.range.start
                && *at + to_u64(last.range.len()) == host;
            if is_next {
                last.range.end = part.range.end;
                return Ok(());
            }
        }
        self.write(writer)?;
        self.waiting = Some((part, host));
        Ok(())
    }

    /// Writes what there is.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub(super) fn write(&mut self, writer: &mut impl WriteAt) -> Result<()> {
        match self.waiting.take() {
            Some((part, host)) => writer.write_at(part.bytes(), host),
            None => Ok(()),
        }
    }
}
