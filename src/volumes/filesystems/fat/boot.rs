//! The boot sector of FAT: what the volume says of itself. Source: Microsoft, FAT: General Overview of On-Disk
//! Format, 1.03 (fatgen103), "Boot Sector and BPB"; where Linux reads it otherwise, that is said.

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, Unaligned};

use crate::error::Expected;
use crate::units::Exact;
use crate::volumes::doubt::Doubt;
use crate::volumes::filesystems::heap::Heap;
use crate::volumes::view::View;

/// The first bytes of all three.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawBoot {
    /// 0: a jump to the boot code.
    pub(super) jmp_boot: [u8; 3],
    /// 3: who made it.
    pub(super) oem_name: [u8; 8],
    /// 11: 512 to 4096, a power of two.
    pub(super) byts_per_sec: U16<LE>,
    /// 13: a power of two.
    pub(super) sec_per_clus: u8,
    /// 14: sectors before the first FAT, this one among them.
    pub(super) rsvd_sec_cnt: U16<LE>,
    /// 16: how many FATs there are.
    pub(super) num_fats: u8,
    /// 17: entries of the root directory; 0 in FAT32, where it lies in clusters.
    pub(super) root_ent_cnt: U16<LE>,
    /// 19: all sectors; 0 if `tot_sec_32` tells.
    pub(super) tot_sec_16: U16<LE>,
    /// 21: what the first byte of a FAT is.
    pub(super) media: u8,
    /// 22: sectors of a FAT; 0 in FAT32.
    pub(super) fat_sz_16: U16<LE>,
    /// 24: sectors of a track.
    pub(super) sec_per_trk: U16<LE>,
    /// 26: heads.
    pub(super) num_heads: U16<LE>,
    /// 28: sectors before the volume.
    pub(super) hidd_sec: U32<LE>,
    /// 32: all sectors, if `tot_sec_16` is 0.
    pub(super) tot_sec_32: U32<LE>,
}

const _: () = assert!(size_of::<RawBoot>() == 36);

/// What FAT32 has behind them.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBoot32 {
    /// 36: sectors of a FAT.
    fat_sz_32: U32<LE>,
    /// 40: bits 0 to 3: the active FAT, if bit 7 is set; otherwise all are the same.
    ext_flags: U16<LE>,
    /// 42: 0, the only version there is.
    fs_ver: U16<LE>,
    /// 44: the first cluster of the root directory.
    root_clus: U32<LE>,
    /// 48: the sector that tells how many clusters are free. That is no more than a hint, often an old one.
    fs_info: U16<LE>,
    /// 50: the sector with a copy of the first one.
    bk_boot_sec: U16<LE>,
    /// 52.
    reserved: [u8; 12],
}

const _: () = assert!(size_of::<RawBoot32>() == 28);

/// What stands behind that: at byte 36 in FAT12 and FAT16, 64 in FAT32.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtended {
    /// 0.
    drv_num: u8,
    /// 1: bit 0 is set by Windows NT and Linux while they have it mounted writable.
    state: u8,
    /// 2: 0x29 if what follows is there.
    boot_sig: u8,
    /// 3.
    vol_id: U32<LE>,
    /// 7: a copy of the label, which most programs leave as it was when they change the label itself.
    vol_lab: [u8; 11],
    /// 18: `FAT12   ` or the like.
    fil_sys_type: [u8; 8],
}

const _: () = assert!(size_of::<RawExtended>() == 26);

/// How wide the entries of a FAT are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

impl Width {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fat12 => "FAT12",
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        }
    }

    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Fat12 => 12,
            Self::Fat16 => 16,
            Self::Fat32 => 32,
        }
    }
}

/// Where the root directory lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// In these bytes.
    Fixed(Range<u64>),
    /// In a chain of clusters that begins with this one.
    Cluster(u64),
}

/// What a boot sector says of a volume, which has been found to be possible. Offsets and sizes in bytes.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) kind: Width,
    pub(super) size: u64,
    pub(super) heap: Heap,
    /// Where the first FAT begins.
    pub(super) fats_start: u64,
    /// The size of each.
    pub(super) fat_size: u64,
    pub(super) fats: u64,
    /// The FAT that is right if they are not the same, and whether they should be.
    pub(super) active: u64,
    pub(super) is_mirrored: bool,
    pub(super) root: Root,
    pub(super) media: u8,
    /// Whether the boot sector says that it was not unmounted.
    pub(super) is_dirty: bool,
}

impl Volume {
    pub(super) fn read(view: View<'_>) -> Result<Self, Doubt> {
        let boot: RawBoot = view.structure(BOOT, 0)?;
        if boot.fat_sz_16.get() == 0 {
            // Linux, Windows and EDK II take it for FAT32 then, whatever the number of clusters. By the letter of
            // the specification it may be too small for that, but then it would have no root directory.
            let boot32: RawBoot32 = view.structure(BOOT, 36)?;
            return Self::fat32(view, &boot, &boot32);
        }
        let extended: RawExtended = view.structure(BOOT, 36)?;
        let layout = Layout::new(view, &boot, boot.fat_sz_16.get().into())?;
        let kind = match layout.heap.count {
            ..4085 => Width::Fat12,
            4085..65525 => Width::Fat16,
            count => {
                let expected = Expected::AtMost(65524);
                return Err(wrong(view, "number of clusters", count, expected));
            }
        };
        let root = Root::Fixed(layout.root.clone());
        layout.volume(view, kind, &boot, &extended, root)
    }

    fn fat32(view: View<'_>, boot: &RawBoot, boot32: &RawBoot32) -> Result<Self, Doubt> {
        let zero = Expected::Exactly(0);
        if boot.root_ent_cnt.get() != 0 {
            let found = boot.root_ent_cnt.get().into();
            return Err(wrong(view, "BPB_RootEntCnt", found, zero));
        }
        if boot32.fs_ver.get() != 0 {
            return Err(wrong(view, "BPB_FSVer", boot32.fs_ver.get().into(), zero));
        }
        let layout = Layout::new(view, boot, boot32.fat_sz_32.get().into())?;
        let root = u64::from(boot32.root_clus.get());
        if !layout.heap.has(root) {
            let expected = Expected::That("the number of a cluster");
            return Err(wrong(view, "BPB_RootClus", root, expected));
        }
        if layout.heap.count > 0x0fff_fff5 {
            let expected = Expected::AtMost(0x0fff_fff5);
            return Err(wrong(view, "number of clusters", layout.heap.count, expected));
        }
        let extended: RawExtended = view.structure(BOOT, 64)?;
        let mut volume = layout.volume(view, Width::Fat32, boot, &extended, Root::Cluster(root))?;
        let flags = u64::from(boot32.ext_flags.get());
        if flags & 0x80 != 0 {
            volume.is_mirrored = false;
            volume.active = flags & 0xf;
        }
        if volume.active >= volume.fats {
            let expected = Expected::That("the number of a FAT in bits 0 to 3");
            return Err(wrong(view, "BPB_ExtFlags", flags, expected));
        }
        Ok(volume)
    }
}

/// What stands in the first sector of FAT32 and matters here, but which FAT is active: that changes.
const MATTERS: [Range<usize>; 3] = [11..24, 32..40, 42..48];

/// Makes sure that the copy of FAT32's first sector, if there is one, says the same: else one of them is of another
/// volume, and who knows which.
pub(super) fn check_backup(view: View<'_>) -> Result<(), Doubt> {
    let sector: [u8; 512] = view.structure(BOOT, 0)?;
    let Some(at) = backup_at(view)? else {
        return Ok(());
    };
    let backup: [u8; 512] = view.structure("FAT backup boot sector", at)?;
    let is_other = |range: &Range<usize>| backup.get(range.clone()) != sector.get(range.clone());
    if backup.ends_with(&[0x55, 0xaa]) && MATTERS.iter().any(is_other) {
        return Err(Doubt::State("its boot sector and its backup differ"));
    }
    Ok(())
}

/// Where the copy of FAT32's first sector is, if there is one, in bytes.
pub(super) fn backup_at(view: View<'_>) -> Result<Option<u64>, Doubt> {
    let boot: RawBoot = view.structure(BOOT, 0)?;
    let boot32: RawBoot32 = view.structure(BOOT, 36)?;
    let number = boot32.bk_boot_sec.get();
    let is_there = number != 0 && number < boot.rsvd_sec_cnt.get();
    Ok(is_there.then(|| u64::from(number).times(boot.byts_per_sec.get().into())))
}

/// What [`Doubt`] calls it.
const BOOT: &str = "FAT boot sector";

fn wrong(view: View<'_>, field: &'static str, found: u64, expected: Expected) -> Doubt {
    let (structure, at) = (BOOT, view.position(0));
    Doubt::Field {
        structure,
        at,
        field,
        found,
        expected,
    }
}

/// Where everything lies, which follows from the same fields in all three.
#[derive(Clone, Debug)]
struct Layout {
    size: u64,
    fats_start: u64,
    fat_size: u64,
    root: Range<u64>,
    heap: Heap,
}

impl Layout {
    fn new(view: View<'_>, boot: &RawBoot, fat_sectors: u64) -> Result<Self, Doubt> {
        // No field has more than 32 bits, and the sizes that it is multiplied by have 16 and 8: nothing passes 2^57.
        let sector = u64::from(boot.byts_per_sec.get());
        let (short, long) = (u64::from(boot.tot_sec_16.get()), u64::from(boot.tot_sec_32.get()));
        if short != 0 && long != 0 && short != long {
            return Err(wrong(view, "BPB_TotSec32", long, Expected::Exactly(short)));
        }
        let size = short.max(long).times(sector);
        view.holds("FAT filesystem", 0, size)?;

        let fats_start = u64::from(boot.rsvd_sec_cnt.get()).times(sector);
        let fat_size = fat_sectors.times(sector);
        let fats_end = fats_start.plus(fat_size.times(boot.num_fats.into()));
        let root_size = u64::from(boot.root_ent_cnt.get()).times(32);
        if !root_size.is_multiple_of(sector) {
            // It may be rounded up, which Linux refuses to.
            let found = boot.root_ent_cnt.get().into();
            let expected = Expected::MultipleOf(sector / 32);
            return Err(wrong(view, "BPB_RootEntCnt", found, expected));
        }
        let root = fats_end..fats_end.plus(root_size);
        let cluster_size = sector.times(boot.sec_per_clus.into());
        // None if they do not even end within it: then there are no clusters.
        let room = size.saturating_sub(root.end);
        let heap = Heap {
            start: root.end,
            cluster_size,
            count: room.checked_div(cluster_size).unwrap_or(0),
        };
        if heap.count == 0 {
            let expected = Expected::AtLeast(1);
            return Err(wrong(view, "number of clusters", 0, expected));
        }
        Ok(Self {
            size,
            fats_start,
            fat_size,
            root,
            heap,
        })
    }

    fn volume(
        self,
        view: View<'_>,
        kind: Width,
        boot: &RawBoot,
        extended: &RawExtended,
        root: Root,
    ) -> Result<Volume, Doubt> {
        // Linux uses no more clusters than there are entries; others might.
        let bits = self.fat_size.times(8);
        let entries = bits.checked_div(kind.bits()).unwrap_or(0);
        let needed = self.heap.count.plus(2);
        if entries < needed {
            let expected = Expected::AtLeast(needed);
            return Err(wrong(view, "number of entries in a FAT", entries, expected));
        }
        let is_extended = extended.boot_sig == 0x29;
        let says = extended.fil_sys_type;
        let others = [Width::Fat12, Width::Fat16, Width::Fat32].map(Width::name);
        let is_other = |name: &&str| *name != kind.name() && says.starts_with(name.as_bytes());
        if is_extended && let Some(other) = others.iter().find(|name| is_other(name)) {
            return Err(Doubt::Ambiguous(kind.name(), other));
        }
        // By the specification it is FAT16, but there were always some that counted otherwise, up to here.
        let is_told = is_extended && says.starts_with(kind.name().as_bytes());
        if kind == Width::Fat16 && self.heap.count <= 4086 && !is_told {
            return Err(Doubt::Ambiguous(Width::Fat12.name(), kind.name()));
        }
        Ok(Volume {
            kind,
            size: self.size,
            heap: self.heap,
            fats_start: self.fats_start,
            fat_size: self.fat_size,
            fats: boot.num_fats.into(),
            active: 0,
            is_mirrored: true,
            root,
            media: boot.media,
            is_dirty: extended.state & 1 != 0,
        })
    }
}
