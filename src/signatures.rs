//! What a disk or a volume can begin, or end, with: every signature stands here, and only here. Source: libblkid's
//! probes, dmraid, Linux, QEMU's `block/*.c`, and the formats' own specifications.
//!
//! What it takes more than a few bytes to recognise, a filesystem that is read here for example, is known to those that
//! read it.

use crate::units::to_usize;

/// A format that is recognised by some bytes in some place.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    /// One of these is in it, or more.
    pub(crate) marks: &'static [Mark],
}

/// Bytes in a place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// So many bytes from the beginning.
    At(u64, &'static [u8]),
    /// So many bytes before the end, which is that of the last whole sector of 512 bytes.
    Back(u64, &'static [u8]),
}

use Mark::{At, Back};

impl Mark {
    /// Whether it is in these bytes, which begin where a format does.
    pub(crate) fn is_in(&self, begin: &[u8]) -> bool {
        match self {
            At(at, magic) => (begin.get(to_usize(*at)..)).is_some_and(|begin| begin.starts_with(magic)),
            Back(..) => false,
        }
    }
}

/// A format of images of disks.
#[derive(Debug)]
pub(crate) struct ImageFormat {
    /// The name that QEMU has for it.
    pub(crate) driver: &'static str,
    pub(crate) signature: Signature,
}

/// Images of disks. The first is meant whose mark it is.
pub(crate) const IMAGES: &[ImageFormat] = &[
    image("qcow", "qcow", &[At(0, &QCOW1)]),
    image("qcow2", "qcow", &[At(0, &QCOW2)]),
    image("qed", "QED", &[At(0, &QED)]),
    image(
        "vmdk",
        "VMDK",
        &[At(0, b"KDMV"), At(0, b"COWD"), At(0, b"# Disk DescriptorFile")],
    ),
    image("vdi", "VDI", &[At(64, b"\x7f\x10\xda\xbe")]),
    image("vhdx", "VHDX", &[At(0, b"vhdxfile")]),
    image("vpc", "VHD", &[At(0, b"conectix")]),
    image(
        "parallels",
        "Parallels",
        &[At(0, b"WithoutFreeSpace"), At(0, b"WithouFreSpacExt")],
    ),
    image("bochs", "Bochs", &[At(0, b"Bochs Virtual HD Image")]),
];

const fn image(driver: &'static str, name: &'static str, marks: &'static [Mark]) -> ImageFormat {
    ImageFormat {
        driver,
        signature: Signature { name, marks },
    }
}

/// What holds a disk in an encoding that no program of disks reads: what compresses, and other archives of disks.
pub(crate) const ENCODED: &[Signature] = &[
    format("gzip", &[At(0, b"\x1f\x8b\x08")]),
    format("xz", &[At(0, b"\xfd7zXZ\0")]),
    format("zstd", &[At(0, b"\x28\xb5\x2f\xfd")]),
    format("bzip2", &[At(4, b"1AY&SY")]),
    format("lz4", &[At(0, b"\x04\x22\x4d\x18")]),
    format("lzop", &[At(0, b"\x89LZO\0\r\n\x1a\n")]),
    format("an Android sparse image", &[At(0, b"\x3a\xff\x26\xed")]),
    format("an image of partclone", &[At(0, b"partclone-image")]),
];

/// The magic of QCOW version 1, and the version.
pub(crate) const QCOW1: [u8; 8] = *b"QFI\xfb\0\0\0\x01";
/// The magic of qcow2.
pub(crate) const QCOW2: [u8; 4] = *b"QFI\xfb";
/// The magic of QED.
pub(crate) const QED: [u8; 4] = *b"QED\0";

/// What others put into boot sectors that look like those of FAT, and HPFS into its superblock, too.
pub(crate) const LIKE_FAT: &[Mark] = &[
    NTFS,
    At(3, b"EXFAT   "),
    BITLOCKER,
    BITLOCKER_TO_GO,
    BITLOCKER_TO_GO_32,
    At(54, b"HPFS    "),
    HPFS,
];

const fn format(name: &'static str, marks: &'static [Mark]) -> Signature {
    Signature { name, marks }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
/// Of the second header of LUKS2, which stays in use when the first one is damaged.
const LUKS2: &[u8] = b"SKUL\xba\xbe";
const STRATIS: &[u8] = b"!Stra0tis\x86\xff\x02^\x41rh";
const INTEL: &[u8] = b"Intel Raid ISM Cfg Sig. ";
/// In each of the four copies of what Medley writes, from the beginning of its sector on.
const MEDLEY: &[u8] = b"\0\0\0\x2f";
/// Of LUKS1, and the first header of LUKS2.
pub(crate) const LUKS: Mark = At(0, b"LUKS\xba\xbe");
const NTFS: Mark = At(3, b"NTFS    ");
const BITLOCKER: Mark = At(3, b"-FVE-FS-");
/// On removable disks, in a boot sector like that of FAT16 and in one like that of FAT32.
const BITLOCKER_TO_GO: Mark = At(160, BITLOCKER_GUID);
const BITLOCKER_TO_GO_32: Mark = At(424, BITLOCKER_GUID);
const BITLOCKER_GUID: &[u8] = b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
/// Of its superblock.
const HPFS: Mark = At(8 * KIB, b"\x49\xe8\x95\xf9");
const RIGID_DISK: &[u8] = b"RDSK";
/// Labels of z/OS, of Linux and of CMS, in EBCDIC.
const VOL1: &[u8] = b"\xe5\xd6\xd3\xf1";
const LNX1: &[u8] = b"\xd3\xd5\xe7\xf1";
const CMS1: &[u8] = b"\xc3\xd4\xe2\xf1";

/// Names of formats that share a signature with others, which are told apart by more than that.
pub(crate) const BCACHE_NAME: &str = "bcache";
pub(crate) const BCACHEFS_NAME: &str = "bcachefs";
pub(crate) const ISO_9660_NAME: &str = "ISO 9660";
pub(crate) const DRBD_NAME: &str = "DRBD";
/// Where the magic of DRBD is in its last block of 4 KiB, and the magics of version 8, of one in use, and of version 9.
pub(crate) const DRBD_MAGIC: u64 = 60;
pub(crate) const DRBD: [[u8; 4]; 3] = [*b"\x83\x74\x02\x6b", *b"\x83\x74\x02\x6c", *b"\x83\x74\x02\x6d"];

/// Whatever holds other things comes first, then filesystems, other partition tables, and images of disks.
pub(crate) const CONTENT: &[Signature] = &[
    format(
        "LUKS",
        &[
            LUKS,
            At(16 * KIB, LUKS2),
            At(32 * KIB, LUKS2),
            At(64 * KIB, LUKS2),
            At(128 * KIB, LUKS2),
            At(256 * KIB, LUKS2),
            At(512 * KIB, LUKS2),
            At(MIB, LUKS2),
            At(2 * MIB, LUKS2),
            At(4 * MIB, LUKS2),
        ],
    ),
    format("BitLocker", &[BITLOCKER, BITLOCKER_TO_GO, BITLOCKER_TO_GO_32]),
    format(
        "LVM2",
        &[
            At(0, b"LABELONE"),
            At(512, b"LABELONE"),
            At(1024, b"LABELONE"),
            At(1536, b"LABELONE"),
        ],
    ),
    format("LVM1", &[At(0, b"HM\x01\0"), At(0, b"HM\x02\0")]),
    format("device-mapper snapshot", &[At(0, b"SnAp")]),
    format("dm-verity", &[At(0, b"verity\0\0")]),
    format("dm-integrity", &[At(0, b"integrt\0")]),
    format("VDO", &[At(0, b"dmvdo001")]),
    format("Stratis", &[At(512 + 4, STRATIS), At(9 * 512 + 4, STRATIS)]),
    format(BCACHE_NAME, &[At(4 * KIB + 24, BCACHE)]),
    format(
        BCACHEFS_NAME,
        &[
            At(4 * KIB + 24, BCACHEFS),
            At(2 * MIB + 24, BCACHEFS),
            Back(MIB - 24, BCACHEFS),
        ],
    ),
    format(
        DRBD_NAME,
        &[
            Back(4 * KIB - DRBD_MAGIC, &DRBD[0]),
            Back(4 * KIB - DRBD_MAGIC, &DRBD[1]),
            Back(4 * KIB - DRBD_MAGIC, &DRBD[2]),
            At(0, b"$DRBDmgr=q"),
            At(0, b"DRBDdlh*"),
        ],
    ),
    format("Ceph BlueStore", &[At(0, b"bluestore block device")]),
    format("Oracle ASM", &[At(32, b"ORCLDISK")]),
    format("OpenBSD softraid", &[At(8 * KIB, b"marcCRAM")]),
    format("FreeBSD GEOM", &[Back(512, b"GEOM::"), Back(4096, b"GEOM::")]),
    format("Intel RAID", &[Back(2 * 512, INTEL), Back(2 * 4096, INTEL)]),
    format(
        "DDF RAID",
        &[
            Back(512, b"\xde\x11\xde\x11"),
            Back(257 * 512, b"\xde\x11\xde\x11"),
        ],
    ),
    format("LSI RAID", &[Back(512, b"$XIDE$")]),
    format("NVIDIA RAID", &[Back(2 * 512, b"NVIDIA  ")]),
    format("Adaptec RAID", &[Back(512, b"\x37\xfc\x4d\x1e")]),
    format(
        "HighPoint RAID",
        &[
            At(9 * 512 + 32, b"\xf0\x16\x78\x5a"),
            At(9 * 512 + 32, b"\xfd\x16\x78\x5a"),
            Back(11 * 512, b"\xf3\x16\x78\x5a"),
            Back(11 * 512, b"\xfd\x16\x78\x5a"),
        ],
    ),
    format(
        "Silicon Image RAID",
        &[
            Back(512 - 96, MEDLEY),
            Back(513 * 512 - 96, MEDLEY),
            Back(1025 * 512 - 96, MEDLEY),
            Back(1537 * 512 - 96, MEDLEY),
        ],
    ),
    format("Storage Spaces", &[At(0, b"SPACEDB")]),
    format(
        "VMFS",
        &[At(MIB, b"\x0d\xd0\x01\xc0"), At(2 * MIB, b"\x5e\xf1\xab\x2f")],
    ),
    format("NTFS", &[NTFS]),
    format("ReFS", &[At(0, b"\0\0\0ReFS\0")]),
    format("F2FS", &[At(KIB, b"\x10\x20\xf5\xf2")]),
    format("NILFS2", &[At(KIB, b"\x02\0\0\0\0\0\x34\x34")]),
    format("JFS", &[At(32 * KIB, b"JFS1")]),
    format(
        "ReiserFS",
        &[
            At(64 * KIB + 52, b"ReIsErFs"),
            At(64 * KIB + 52, b"ReIsEr2Fs"),
            At(64 * KIB + 52, b"ReIsEr3Fs"),
            At(8 * KIB + 52, b"ReIsErFs"),
            At(8 * KIB + 20, b"ReIsErFs"),
        ],
    ),
    format("Reiser4", &[At(64 * KIB, b"ReIsEr4")]),
    format(
        ISO_9660_NAME,
        &[At(32 * KIB + 1, b"CD001"), At(32 * KIB + 9, b"CDROM")],
    ),
    format("UDF", &[At(32 * KIB + 1, b"BEA01")]),
    format("squashfs", &[At(0, b"hsqs"), At(0, b"sqsh")]),
    format("EROFS", &[At(KIB, b"\xe2\xe1\xf5\xe0")]),
    format(
        "cramfs",
        &[At(0, b"\x45\x3d\xcd\x28"), At(0, b"\x28\xcd\x3d\x45")],
    ),
    format("romfs", &[At(0, b"-rom1fs-")]),
    format("APFS", &[At(32, b"NXSB")]),
    format("HFS+", &[At(KIB, b"H+\0\x04"), At(KIB, b"HX\0\x05")]),
    format("HFS", &[At(KIB, b"BD")]),
    format(
        "UFS",
        &[
            // Version 1 at 8 KiB, version 2 at 64 KiB, and both in either byte order.
            At(8 * KIB + 1372, b"\x54\x19\x01\0"),
            At(8 * KIB + 1372, b"\0\x01\x19\x54"),
            At(64 * KIB + 1372, b"\x19\x01\x54\x19"),
            At(64 * KIB + 1372, b"\x19\x54\x01\x19"),
            At(8 * KIB + 1372, b"\x19\x01\x54\x19"),
            At(8 * KIB + 1372, b"\x19\x54\x01\x19"),
            At(256 * KIB + 1372, b"\x19\x01\x54\x19"),
            At(256 * KIB + 1372, b"\x19\x54\x01\x19"),
        ],
    ),
    format("GFS2", &[At(64 * KIB, b"\x01\x16\x19\x70")]),
    format(
        "OCFS2",
        &[
            At(KIB, b"OCFSV2"),
            At(2 * KIB, b"OCFSV2"),
            At(4 * KIB, b"OCFSV2"),
            At(8 * KIB, b"OCFSV2"),
        ],
    ),
    format(
        "VxFS",
        &[At(KIB, b"\xf5\xfc\x01\xa5"), At(8 * KIB, b"\xa5\x01\xfc\xf5")],
    ),
    format(
        "QNX6",
        &[
            // Behind what starts the system, or at the beginning, and in either byte order.
            At(8 * KIB, b"\x22\x11\x19\x68"),
            At(8 * KIB, b"\x68\x19\x11\x22"),
            At(0, b"\x22\x11\x19\x68"),
            At(0, b"\x68\x19\x11\x22"),
        ],
    ),
    format("HPFS", &[HPFS]),
    format(
        "BeOS BFS",
        &[
            At(32, b"BFS1"),
            At(32, b"1SFB"),
            At(512 + 32, b"BFS1"),
            At(512 + 32, b"1SFB"),
        ],
    ),
    format("SCO BFS", &[At(0, b"\xce\xfa\xad\x1b")]),
    format("mpool", &[At(0, b"mpoolDev")]),
    format("NetWare NSS", &[At(4 * KIB, b"SPB5")]),
    format("ScoutFS", &[At(64 * KIB + 4, b"\x8b\x42\x3c\x10")]),
    format("UBI", &[At(0, b"UBI#")]),
    format("UBIFS", &[At(0, b"\x31\x18\x10\x06")]),
    format("zonefs", &[At(0, b"SFOZ")]),
    format(
        "BSD disk label",
        &[
            At(64, b"\x57\x45\x56\x82"),
            At(128, b"\x57\x45\x56\x82"),
            At(512, b"\x57\x45\x56\x82"),
        ],
    ),
    format("Solaris disk label", &[At(512 + 12, b"\xee\xde\x0d\x60")]),
    format("SGI disk label", &[At(0, b"\x0b\xe5\xa9\x41")]),
    format("AIX disk label", &[At(0, b"\xc9\xc2\xd4\xc1")]),
    format(
        "DASD disk label",
        &[
            // In the third block, of 512 to 4096 bytes; that of z/OS behind a key.
            At(2 * 512 + 4, VOL1),
            At(2 * 512, LNX1),
            At(2 * 512, CMS1),
            At(2 * 1024 + 4, VOL1),
            At(2 * 1024, LNX1),
            At(2 * 1024, CMS1),
            At(2 * 2048 + 4, VOL1),
            At(2 * 2048, LNX1),
            At(2 * 2048, CMS1),
            At(2 * 4096 + 4, VOL1),
            At(2 * 4096, LNX1),
            At(2 * 4096, CMS1),
        ],
    ),
    format(
        "Amiga partition table",
        &[
            At(0, RIGID_DISK),
            At(512, RIGID_DISK),
            At(2 * 512, RIGID_DISK),
            At(3 * 512, RIGID_DISK),
        ],
    ),
    format("dynamic disk", &[At(6 * 512, b"PRIVHEAD")]),
];
