//! The boot region of exFAT: what the volume says of itself. Source: Microsoft, exFAT file system specification,
//! section 3.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64, Unaligned};

use crate::error::Expected;
use crate::units::{Exact, claimed_size, to_usize};
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::heap::{FIRST, Heap};
use crate::volumes::view::View;

/// How many sectors a boot region has; the last one repeats the checksum of the others.
pub(super) const SECTORS: u64 = 12;

/// The first sector of a boot region, without its boot code.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBoot {
    /// 0: a jump to the boot code.
    jump_boot: [u8; 3],
    /// 3: `EXFAT   `.
    file_system_name: [u8; 8],
    /// 11: so that nobody takes it for FAT.
    must_be_zero: [u8; 53],
    /// 64: sectors before the volume.
    partition_offset: U64<LE>,
    /// 72: sectors of the volume.
    volume_length: U64<LE>,
    /// 80: where the first FAT begins, in sectors; at least 24.
    fat_offset: U32<LE>,
    /// 84: sectors of each FAT.
    fat_length: U32<LE>,
    /// 88: where the first cluster begins, in sectors.
    cluster_heap_offset: U32<LE>,
    /// 92: clusters; at most 2^32 - 11.
    cluster_count: U32<LE>,
    /// 96: where the chain of the root directory begins.
    first_cluster_of_root_directory: U32<LE>,
    /// 100.
    volume_serial_number: U32<LE>,
    /// 104: the major version, which is 1, in the upper byte.
    file_system_revision: U16<LE>,
    /// 106: bit 0: the second FAT and bitmap are active; bit 1: it was not unmounted. Bit 2 tells of failures of the
    /// medium, which change nothing of what is in use.
    volume_flags: U16<LE>,
    /// 108: log2 of the sector size; 9 to 12.
    bytes_per_sector_shift: u8,
    /// 109: log2 of the sectors of a cluster; 25 at most together with the one before.
    sectors_per_cluster_shift: u8,
    /// 110: FATs, and bitmaps; 2 in `TexFAT`.
    number_of_fats: u8,
    /// 111.
    drive_select: u8,
    /// 112: how full it is. Linux never changes it, so that it says nothing of a healthy volume either.
    percent_in_use: u8,
    /// 113.
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<RawBoot>() == 120);

/// What a boot region says of a volume, which has been found to be possible. Offsets and sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) size: u64,
    pub(super) heap: Heap,
    /// Where the first FAT begins.
    pub(super) fats_start: u64,
    /// The size of each.
    pub(super) fat_size: u64,
    /// How many FATs there are, and bitmaps.
    pub(super) fats: u64,
    /// The FAT that is right if they are not the same.
    pub(super) active: u64,
    /// The first cluster of the root directory.
    pub(super) root: u64,
    pub(super) is_dirty: bool,
}

impl Volume {
    /// The main boot region is what everybody reads. A backup that says something else, apart from the flags, belongs
    /// to another volume: who knows which.
    pub(super) fn read(view: View<'_>) -> Result<Self, Doubt> {
        let (main, sector) = Self::region(view, "exFAT boot region", 0)?;
        let backup = sector.times(SECTORS);
        let (other, _) = Self::region(view, "exFAT backup boot region", backup)?;
        let other = Self {
            active: main.active,
            is_dirty: main.is_dirty,
            ..other
        };
        if other != main {
            return Err(Doubt::State("its boot region and its backup differ"));
        }
        Ok(main)
    }

    /// What the boot region at `at` says, and the size of its sectors.
    fn region(view: View<'_>, structure: &'static str, at: u64) -> Result<(Self, u64), Doubt> {
        let boot: RawBoot = view.structure(structure, at)?;
        let wrong = |field, found, expected| Doubt::Field {
            structure,
            at: view.position(at),
            field,
            found,
            expected,
        };
        let shift = boot.bytes_per_sector_shift;
        if !(9..=12).contains(&shift) {
            let expected = Expected::That("9 to 12");
            return Err(wrong("BytesPerSectorShift", shift.into(), expected));
        }
        let sector = 1_u64 << shift;
        check_checksum(view, structure, at, sector)?;
        let more = boot.sectors_per_cluster_shift;
        let most = 25_u8.minus(shift);
        if more > most {
            let expected = Expected::AtMost(most.into());
            return Err(wrong("SectorsPerClusterShift", more.into(), expected));
        }
        let revision = boot.file_system_revision.get();
        if revision >> 8 != 1 {
            let expected = Expected::That("a version of 1");
            return Err(wrong("FileSystemRevision", revision.into(), expected));
        }
        let fats = boot.number_of_fats;
        if !(1..=2).contains(&fats) {
            return Err(wrong("NumberOfFats", fats.into(), Expected::That("1 or 2")));
        }
        let flags = boot.volume_flags.get();
        if fats == 1 && flags & 1 != 0 {
            let expected = Expected::That("bit 0 to be clear, because there is one FAT");
            return Err(wrong("VolumeFlags", flags.into(), expected));
        }
        // All but the size are numbers of 32 bits, and sectors have 4 KiB at most.
        let bytes = |sectors: u64| sectors.times(sector);
        let volume = Self {
            size: claimed_size(boot.volume_length.get(), sector),
            heap: Heap {
                start: bytes(boot.cluster_heap_offset.get().into()),
                cluster_size: sector << more,
                count: boot.cluster_count.get().into(),
            },
            fats_start: bytes(boot.fat_offset.get().into()),
            fat_size: bytes(boot.fat_length.get().into()),
            fats: fats.into(),
            active: (flags & 1).into(),
            root: boot.first_cluster_of_root_directory.get().into(),
            is_dirty: flags & 2 != 0,
        };
        volume.check(view, wrong)?;
        Ok((volume, sector))
    }

    /// Makes sure that everything has its own place.
    fn check(
        &self,
        view: View<'_>,
        wrong: impl Fn(&'static str, u64, Expected) -> Doubt,
    ) -> Result<(), Doubt> {
        view.holds("exFAT filesystem", 0, self.size)?;
        let fats_end = self.fats_start.plus(self.fat_size.times(self.fats));
        let entries = self.fat_size / 4;
        let needed = self.heap.count.plus(FIRST);
        let within = Expected::That("the number of a cluster");
        match () {
            () if self.heap.start < fats_end => {
                let expected = Expected::AtLeast(fats_end);
                Err(wrong("ClusterHeapOffset", self.heap.start, expected))
            }
            () if self.heap.end() > self.size => {
                let expected = Expected::AtLeast(self.heap.end());
                Err(wrong("VolumeLength", self.size, expected))
            }
            () if entries < needed => Err(wrong("FatLength", entries, Expected::AtLeast(needed))),
            () if !self.heap.has(self.root) => Err(wrong("FirstClusterOfRootDirectory", self.root, within)),
            () => Ok(()),
        }
    }
}

/// The checksum of a boot region: of all of its sectors but the last.
pub(super) fn checksum(region: &[u8], sector: u64) -> u32 {
    let covered = sector.times(SECTORS.minus(1));
    let mut sum = 0_u32;
    for (index, byte) in (0..covered).zip(region) {
        // VolumeFlags and PercentInUse change without it.
        if !matches!(index, 106 | 107 | 112) {
            sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
        }
    }
    sum
}

/// Makes sure that the last sector of a boot region is filled with the checksum of those before it.
fn check_checksum(view: View<'_>, structure: &'static str, at: u64, sector: u64) -> Result<(), Doubt> {
    let bytes = view.bytes(structure, at, sector.times(SECTORS))?;
    let expected = checksum(&bytes, sector);
    let (words, _) = bytes.as_chunks::<4>();
    let mut last = words.iter().rev().map(|word| u32::from_le_bytes(*word));
    let last = last.by_ref().take(to_usize(sector / 4));
    match last.into_iter().find(|found| *found != expected) {
        None => Ok(()),
        Some(found) => Err(Doubt::Checksum {
            structure,
            at: view.position(at),
            found,
            expected,
        }),
    }
}
