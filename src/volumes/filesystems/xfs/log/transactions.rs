//! Transactions, whose operations stand in records piece by piece. Source: Linux, `fs/xfs/xfs_log_recover.c`.
//!
//! ```text
//! record -> operations -> regions, continued in the next record -> items -> a transaction, once it is committed
//! ```

use super::record::Record;
use crate::units::to_usize;
use crate::volumes::doubt::Doubt;
use crate::volumes::fields::{u32_be, u32_le};

/// The length of `struct xlog_op_header`, and where its fields are, in bytes.
const OPERATION: usize = 12;
const TID: usize = 0;
const LEN: usize = 4;
const CLIENT: usize = 8;
const FLAGS: usize = 9;

const TRANSACTION: u8 = 0x69;
const LOG: u8 = 0xaa;

const START: u8 = 1;
const COMMIT: u8 = 2;
const CONTINUE: u8 = 4;
const WAS_CONTINUED: u8 = 8;
const END: u8 = 0x10;
const UNMOUNT: u8 = 0x20;

/// What the header of a transaction, of 16 bytes, begins with.
const MAGIC: u32 = 0x5452_414e;
const HEADER: usize = 16;

/// How many regions an item has at most: that many the kernel takes.
const MAX_REGIONS: usize = 257;

/// How much of transactions that are not complete is kept, in bytes.
const MAX_KEPT: usize = 64 << 20;

/// What an item, or a transaction, takes beside its regions, in bytes.
const OVERHEAD: usize = 96;

/// How many transactions may be open at once: the kernel writes a few.
const MAX_OPEN: usize = 256;

const DAMAGED: Doubt = Doubt::State("a transaction in its log is damaged");

/// What a transaction says of one object.
#[derive(Debug)]
pub(in super::super) struct Item {
    /// How many regions it has.
    total: usize,
    /// The first one tells what it is. Others are empty if they are not kept.
    pub(in super::super) regions: Vec<Vec<u8>>,
    is_kept: bool,
}

#[derive(Debug)]
struct Transaction {
    tid: u32,
    /// The log sequence number of the record in which it begins.
    lsn: u64,
    /// How much of its header was there.
    header: Vec<u8>,
    items: Vec<Item>,
    kept: usize,
}

/// Transactions that are not committed yet.
#[derive(Debug)]
pub(super) struct Open {
    transactions: Vec<Transaction>,
    is_kept: fn(&[u8]) -> bool,
}

impl Open {
    pub(super) fn new(is_kept: fn(&[u8]) -> bool) -> Self {
        Self {
            transactions: Vec::new(),
            is_kept,
        }
    }

    /// Takes in the operations of a record. Tells transactions that it commits.
    pub(super) fn record(
        &mut self,
        record: &Record,
        tell: &mut impl FnMut(u64, Vec<Item>) -> Result<(), Doubt>,
    ) -> Result<(), Doubt> {
        let mut rest = record.data.as_slice();
        for _ in 0..record.operations {
            if rest.is_empty() {
                break;
            }
            let (operation, behind) = rest.split_at_checked(OPERATION).ok_or(DAMAGED)?;
            let length = to_usize(u32_be(operation, LEN).into());
            let (data, behind) = behind.split_at_checked(length).ok_or(DAMAGED)?;
            rest = behind;
            let (client, flags) = (operation.get(CLIENT), operation.get(FLAGS));
            if !matches!(client, Some(&TRANSACTION | &LOG)) {
                return Err(DAMAGED);
            }
            let flags = flags.copied().unwrap_or(0);
            if let Some(done) = self.operation(u32_be(operation, TID), flags, data, record.lsn)? {
                tell(done.lsn, done.items)?;
            }
        }
        Ok(())
    }

    /// Takes in an operation. Returns the transaction if that commits it.
    ///
    /// The kernel passes over those of transactions whose beginning it did not see: that lies in front of the tail.
    fn operation(
        &mut self,
        tid: u32,
        flags: u8,
        data: &[u8],
        lsn: u64,
    ) -> Result<Option<Transaction>, Doubt> {
        let known = self.transactions.iter().position(|open| open.tid == tid);
        let Some(number) = known else {
            if flags & START != 0 {
                self.begin(tid, lsn, data)?;
            }
            return Ok(None);
        };
        let flags = flags & !END;
        let flags = if flags & WAS_CONTINUED != 0 {
            flags & !CONTINUE
        } else {
            flags
        };
        if flags == COMMIT {
            let done = self.transactions.swap_remove(number);
            let is_complete = |item: &Item| item.regions.len() == item.total;
            let has_items = done.header.len() == HEADER && !done.items.is_empty();
            return if has_items && done.items.iter().all(is_complete) {
                Ok(Some(done))
            } else {
                Err(DAMAGED)
            };
        }
        if flags == UNMOUNT {
            self.transactions.swap_remove(number);
            return Ok(None);
        }
        let is_kept = self.is_kept;
        let open = self.transactions.get_mut(number).ok_or(DAMAGED)?;
        match flags {
            0 | CONTINUE => open.region(data, is_kept)?,
            WAS_CONTINUED => open.continued(data)?,
            _ => return Err(DAMAGED),
        }
        let kept = self.transactions.iter().map(|open| open.kept);
        if kept.fold(0, usize::saturating_add) > MAX_KEPT {
            return Err(Doubt::TooMany {
                what: "bytes of transactions in its log at once",
                limit: 64 << 20,
            });
        }
        Ok(None)
    }

    fn begin(&mut self, tid: u32, lsn: u64, data: &[u8]) -> Result<(), Doubt> {
        if !data.is_empty() || self.transactions.len() >= MAX_OPEN {
            return Err(DAMAGED);
        }
        self.transactions.push(Transaction {
            tid,
            lsn,
            header: Vec::new(),
            items: Vec::new(),
            kept: OVERHEAD,
        });
        Ok(())
    }
}

impl Transaction {
    /// Takes in a region, or its beginning.
    fn region(&mut self, data: &[u8], is_kept: fn(&[u8]) -> bool) -> Result<(), Doubt> {
        if data.is_empty() {
            return Ok(());
        }
        if self.header.is_empty() {
            if u32_le(data, 0) != MAGIC || data.len() > HEADER {
                return Err(DAMAGED);
            }
            self.header.extend(data);
            return Ok(());
        }
        if self.header.len() != HEADER {
            return Err(DAMAGED);
        }
        self.kept = self.kept.saturating_add(OVERHEAD);
        if let Some(item) = self.items.last_mut()
            && item.regions.len() < item.total
        {
            if let [first] = item.regions.as_slice() {
                item.is_kept = is_kept(first);
            }
            let kept = if item.is_kept { data } else { &[] };
            self.kept = self.kept.saturating_add(kept.len());
            item.regions.push(kept.to_vec());
            return Ok(());
        }
        // The number of regions stands in its first four bytes.
        let total = to_usize(u64::from(u32_le(data, 0) >> 16));
        if data.len() < 4 || !(1..=MAX_REGIONS).contains(&total) {
            return Err(DAMAGED);
        }
        self.kept = self.kept.saturating_add(data.len());
        self.items.push(Item {
            total,
            regions: vec![data.to_vec()],
            is_kept: true,
        });
        Ok(())
    }

    /// Takes in what follows of a region.
    fn continued(&mut self, data: &[u8]) -> Result<(), Doubt> {
        let Some(item) = self.items.last_mut() else {
            self.header.extend(data.iter().take(HEADER));
            let is_right = self.header.len() <= HEADER && u32_le(&self.header, 0) == MAGIC;
            return if is_right { Ok(()) } else { Err(DAMAGED) };
        };
        if item.is_kept
            && let Some(region) = item.regions.last_mut()
        {
            region.extend(data);
            self.kept = self.kept.saturating_add(data.len());
        }
        Ok(())
    }
}
