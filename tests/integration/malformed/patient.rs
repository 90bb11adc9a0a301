//! An image in memory, and where in it things are: found by walking over it as the specification has it.

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
pub(super) const COPIED: u64 = 1 << 63;
pub(super) const COMPRESSED: u64 = 1 << 62;

/// Offsets of fields of the header.
pub(super) mod field {
    pub(in crate::malformed) const VERSION: u64 = 4;
    pub(in crate::malformed) const BACKING_OFFSET: u64 = 8;
    pub(in crate::malformed) const BACKING_SIZE: u64 = 16;
    pub(in crate::malformed) const CLUSTER_BITS: u64 = 20;
    pub(in crate::malformed) const SIZE: u64 = 24;
    pub(in crate::malformed) const CRYPT: u64 = 32;
    pub(in crate::malformed) const L1_SIZE: u64 = 36;
    pub(in crate::malformed) const L1_OFFSET: u64 = 40;
    pub(in crate::malformed) const REFCOUNT_OFFSET: u64 = 48;
    pub(in crate::malformed) const REFCOUNT_CLUSTERS: u64 = 56;
    pub(in crate::malformed) const SNAPSHOTS: u64 = 60;
    pub(in crate::malformed) const SNAPSHOTS_OFFSET: u64 = 64;
    pub(in crate::malformed) const INCOMPATIBLE: u64 = 72;
    pub(in crate::malformed) const AUTOCLEAR: u64 = 88;
    pub(in crate::malformed) const REFCOUNT_ORDER: u64 = 96;
    pub(in crate::malformed) const HEADER_LENGTH: u64 = 100;
    pub(in crate::malformed) const COMPRESSION: u64 = 104;
}

/// An image that can be damaged.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    pub(super) bytes: Vec<u8>,
}

impl Patient {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn get32(&self, at: u64) -> u32 {
        let at = at as usize;
        u32::from_be_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub(super) fn get64(&self, at: u64) -> u64 {
        let at = at as usize;
        u64::from_be_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn put8(&mut self, at: u64, value: u8) {
        self.put(at, &[value]);
    }

    pub(super) fn put16(&mut self, at: u64, value: u16) {
        self.put(at, &value.to_be_bytes());
    }

    pub(super) fn put32(&mut self, at: u64, value: u32) {
        self.put(at, &value.to_be_bytes());
    }

    pub(super) fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_be_bytes());
    }

    /// Sets bits of a number of 64.
    pub(super) fn set(&mut self, at: u64, bits: u64) {
        self.put64(at, self.get64(at) | bits);
    }

    /// Clears bits of a number of 64.
    pub(super) fn clear(&mut self, at: u64, bits: u64) {
        self.put64(at, self.get64(at) & !bits);
    }

    /// Ends the file there.
    pub(super) fn cut(&mut self, length: u64) {
        assert!(length < self.len());
        self.bytes.truncate(length as usize);
    }

    /// Puts something behind the end, on a cluster of its own, and returns where.
    pub(super) fn append(&mut self, bytes: &[u8]) -> u64 {
        let at = self.len().next_multiple_of(self.cluster_size());
        self.bytes.resize(at as usize, 0);
        self.bytes.extend(bytes);
        let end = self.len().next_multiple_of(self.cluster_size());
        self.bytes.resize(end as usize, 0);
        at
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.get32(field::CLUSTER_BITS)
    }

    pub(super) fn l1(&self) -> u64 {
        self.get64(field::L1_OFFSET)
    }

    /// Where an L1 entry stands.
    pub(super) fn l1_entry(&self, number: u64) -> u64 {
        self.l1() + 8 * number
    }

    /// Where an L2 table is.
    pub(super) fn l2(&self, number: u64) -> u64 {
        self.get64(self.l1_entry(number)) & OFFSET
    }

    /// Where the L2 entry of a guest cluster stands.
    pub(super) fn l2_entry(&self, cluster: u64) -> u64 {
        let width = if self.is_extended() { 16 } else { 8 };
        let entries = self.cluster_size() / width;
        self.l2(cluster / entries) + cluster % entries * width
    }

    /// Where the subcluster bitmap of a guest cluster stands.
    pub(super) fn bitmap(&self, cluster: u64) -> u64 {
        assert!(self.is_extended());
        self.l2_entry(cluster) + 8
    }

    /// Where the data of a guest cluster are.
    pub(super) fn host(&self, cluster: u64) -> u64 {
        let entry = self.get64(self.l2_entry(cluster));
        assert!(entry & COMPRESSED == 0, "cluster {cluster} is compressed");
        entry & OFFSET
    }

    /// Where the stream of a compressed guest cluster is, and up to how many bytes it has.
    pub(super) fn stream(&self, cluster: u64) -> (u64, u64) {
        let entry = self.get64(self.l2_entry(cluster));
        assert!(entry & COMPRESSED != 0, "cluster {cluster} is not compressed");
        let at = entry & ((1 << self.offset_bits()) - 1);
        let sectors = ((entry & !(COPIED | COMPRESSED)) >> self.offset_bits()) + 1;
        (at, sectors * 512 - at % 512)
    }

    /// Makes a guest cluster compressed: the stream is put behind the end.
    pub(super) fn compress(&mut self, cluster: u64, stream: &[u8]) {
        let at = self.append(stream);
        self.point_stream(cluster, at, (stream.len() as u64).div_ceil(512));
    }

    /// Makes a guest cluster compressed: its stream is said to be there.
    pub(super) fn point_stream(&mut self, cluster: u64, at: u64, sectors: u64) {
        let entry = COMPRESSED | (sectors - 1) << self.offset_bits() | at;
        self.put64(self.l2_entry(cluster), entry);
    }

    pub(super) fn refcount_table(&self) -> u64 {
        self.get64(field::REFCOUNT_OFFSET)
    }

    /// Where the first refcount block is.
    pub(super) fn refcount_block(&self) -> u64 {
        self.get64(self.refcount_table())
    }

    /// Where the refcount of a host offset stands; refcounts have 16 bits.
    pub(super) fn refcount(&self, host: u64) -> u64 {
        self.refcount_block() + host / self.cluster_size() * 2
    }

    pub(super) fn snapshots(&self) -> u64 {
        self.get64(field::SNAPSHOTS_OFFSET)
    }

    /// Where a header extension begins.
    pub(super) fn extension(&self, wanted: u32) -> u64 {
        let mut at = self.first_extension();
        loop {
            match self.get32(at) {
                kind if kind == wanted => return at,
                0 => panic!("there is no extension {wanted:#x}"),
                _ => at += 8 + u64::from(self.get32(at + 4)).next_multiple_of(8),
            }
        }
    }

    pub(super) fn first_extension(&self) -> u64 {
        match self.get32(field::VERSION) {
            2 => 72,
            _ => self.get32(field::HEADER_LENGTH).into(),
        }
    }

    /// Where the mark is that ends the extensions.
    pub(super) fn end_of_extensions(&self) -> u64 {
        self.extension(0)
    }

    fn is_extended(&self) -> bool {
        self.get32(field::VERSION) == 3 && self.get64(field::INCOMPATIBLE) & 1 << 4 != 0
    }

    fn offset_bits(&self) -> u32 {
        62 - (self.get32(field::CLUSTER_BITS) - 8)
    }
}
