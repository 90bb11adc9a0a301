//! What a disk is filled with to see where it comes out again.

/// 64 bytes that nothing else writes, none of them zero.
#[derive(Clone, Copy, Debug)]
pub enum Marker {
    /// What was on a disk before its filesystem.
    A,
    /// What is on a disk that something is restored to.
    B,
    /// What stood in a file that was deleted.
    Secret,
}

impl Marker {
    fn bytes(self) -> [u8; 64] {
        let word: &[u8; 16] = match self {
            Self::A => b"what was before,",
            Self::B => b"not this disk's;",
            Self::Secret => b"nobody knows it.",
        };
        std::array::from_fn(|i| word[i % 16] ^ (i as u8 / 16) << 5 | 0x80)
    }

    /// So many bytes of it.
    pub fn times(self, length: u64) -> Vec<u8> {
        let mut bytes = self.bytes().repeat(length.div_ceil(64) as usize);
        bytes.truncate(length as usize);
        bytes
    }

    /// How often it stands in `bytes`, at multiples of its length.
    pub fn count(self, bytes: &[u8]) -> usize {
        let marker = self.bytes();
        bytes.chunks_exact(64).filter(|chunk| **chunk == marker).count()
    }
}
