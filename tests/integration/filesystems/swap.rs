//! Swap areas: of what was swapped out nothing is copied, unless a system sleeps in it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use mkqcow2::disk::{self, Force, Open};
use mkqcow2::volumes::{self, Region, Scan, Treatment};

use super::proof::{Filesystem, MIB, Marker, Proof};
use crate::support::loops::{Loop, Swap as Swapping};
use crate::support::{Dir, tool};

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// A swap area. It has no files.
#[derive(Clone, Copy, Debug)]
pub struct Swap {
    /// The size of its pages, in bytes.
    pub page: u64,
}

impl Swap {
    pub const fn new() -> Self {
        Self { page: 4096 }
    }
}

impl Filesystem for Swap {
    fn make(&self, at: &Path) {
        let page = self.page.to_string();
        let options = ["-q", "-p", &page, "-L", "tired", "-U", UUID];
        tool("mkswap", options.into_iter().chain([at.to_str().unwrap()]));
    }

    fn check(&self, at: &Path) {
        let told = tool("swaplabel", [at]);
        assert_eq!(told, format!("LABEL: tired\nUUID:  {UUID}\n"));
        let told = tool("blkid", ["-p", "-o", "export", at.to_str().unwrap()]);
        assert!(told.contains("TYPE=swap") && told.contains(UUID), "{told}");
    }

    fn used(&self, _at: &Path) -> Option<u64> {
        Some(self.page)
    }

    fn write(&self, _at: &Path, _scratch: &Path, _work: &mut dyn FnMut(&Path)) {}

    fn read(&self, _at: &Path, _scratch: &Path, _work: &mut dyn FnMut(&Path)) {}
}

/// An area of 2 MiB on a disk full of something else, changed by these bytes.
fn changed(dir: &Dir, page: u64, pieces: &[(u64, &[u8])]) -> Region {
    let path = dir.join("area.raw");
    fs::write(&path, Marker::A.times(2 * MIB)).unwrap();
    Swap { page }.make(&path);
    let file = File::options().write(true).open(&path).unwrap();
    for (at, bytes) in pieces {
        file.write_all_at(bytes, *at).unwrap();
    }
    let source = disk::open(&path, Open::default()).unwrap();
    let mut regions = volumes::scan(&source, Scan::Auto).unwrap().regions;
    assert_eq!(regions.len(), 1);
    regions.remove(0)
}

#[track_caller]
fn assert_whole(region: &Region, words: &str) {
    let why = region.why_whole().unwrap_or_default();
    assert!(why.contains(words), "expected {words:?}: {region:?}");
    assert_eq!(region.used, 2 * MIB, "{region:?}");
}

#[test]
fn a_swap_area_comes_back_with_its_label_and_without_what_was_swapped_as_root() {
    Proof::of("swap", 8 * MIB, Swap::new()).holds();
}

#[test]
fn a_swap_area_of_a_machine_with_large_pages_comes_back_as_root() {
    Proof::of("swap-64k", 8 * MIB, Swap { page: 64 << 10 }).holds();
}

#[test]
fn what_lies_behind_the_end_of_a_swap_area_is_copied() {
    let dir = Dir::new("swap-behind");
    // It has 256 pages only.
    let region = changed(&dir, 4096, &[(1028, &255_u32.to_le_bytes())]);
    assert_eq!(region.used, 4096 + MIB, "{region:?}");
}

#[test]
fn a_list_of_bad_pages_is_in_the_first_page() {
    let dir = Dir::new("swap-bad");
    let list: Vec<u8> = [3_u32, 77].iter().flat_map(|page| page.to_le_bytes()).collect();
    let region = changed(&dir, 4096, &[(1032, &2_u32.to_le_bytes()), (1536, &list)]);
    assert_eq!(region.used, 4096, "{region:?}");

    // As many as there is room for, and one more.
    let region = changed(&dir, 4096, &[(1032, &637_u32.to_le_bytes())]);
    assert_eq!(region.used, 4096, "{region:?}");
    let region = changed(&dir, 4096, &[(1032, &638_u32.to_le_bytes())]);
    assert_whole(&region, "nr_badpages is 0x27e, expected at most 0x27d");
}

#[test]
fn an_area_that_a_hibernated_system_sleeps_in_is_copied_whole_as_root() {
    let dir = Dir::new("swap-sleeping");
    let words: [&[u8]; 4] = [b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"];
    for page in [4096, 8192, 16384, 32768, 65536] {
        for word in words {
            let region = changed(&dir, page, &[(page - 10, word)]);
            assert_whole(&region, "it holds a hibernated system");
            assert_eq!(region.name, Some("swap"));
            let told = tool(
                "blkid",
                ["-p", "-o", "export", dir.join("area.raw").to_str().unwrap()],
            );
            assert!(told.contains("TYPE=swsuspend"), "{told}");
        }
    }
    let tux_on_ice = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c";
    let region = changed(&dir, 4096, &[(0, tux_on_ice)]);
    assert_whole(&region, "it holds a hibernated system");

    dir.run("area.raw image.qcow2")
        .exits(0)
        .says("it holds a hibernated system");
    let device = Loop::read_only(&dir.join("area.raw"));
    dir.run(&format!("--no-sync {} image.qcow2", device.path().display()))
        .exits(0);
    crate::support::assert_equals(&dir.join("area.raw"), &dir.join("image.qcow2"));
}

#[test]
fn a_header_that_linux_would_not_take_is_not_believed() {
    let dir = Dir::new("swap-odd");
    let pages = (2 * MIB / 4096) as u32;
    let big_endian: Vec<u8> = [1, pages - 1].iter().flat_map(|n| n.to_be_bytes()).collect();
    let rows: [(&[u8], u64, &str); 6] = [
        (&big_endian, 1024, "version is 0x1000000, expected 0x1"),
        (&2_u32.to_le_bytes(), 1024, "version is 0x2, expected 0x1"),
        (
            &0_u32.to_le_bytes(),
            1028,
            "last_page is 0x0, expected at least 0x1",
        ),
        (
            &pages.to_le_bytes(),
            1028,
            "swap area at 0x0 would end at 0x201000",
        ),
        (&u32::MAX.to_le_bytes(), 1028, "past the end at 0x200000"),
        (b"SWAPSPACE2", 65526, "it has swap signatures for two page sizes"),
    ];
    for (bytes, at, words) in rows {
        assert_whole(&changed(&dir, 4096, &[(at, bytes)]), words);
    }
    // The beginning of something else that left the header in place.
    for at in [0, 1023, 1068, 1535] {
        let region = changed(&dir, 4096, &[(at, b"x")]);
        assert_whole(&region, "there is other data around its header");
    }
}

#[test]
fn an_area_of_the_first_version_is_known_and_copied_whole() {
    let dir = Dir::new("swap-first");
    let region = changed(&dir, 4096, &[(4086, b"SWAP-SPACE")]);
    assert_eq!(region.name, Some("swap (version 0)"));
    assert!(matches!(region.treatment, Treatment::Unknown), "{region:?}");
    assert_eq!(region.used, 2 * MIB);
}

#[test]
fn an_area_that_does_not_begin_where_its_partition_does_is_nothing_that_is_known_as_root() {
    let dir = Dir::new("swap-offset");
    let path = dir.join("area.raw");
    fs::write(&path, Marker::A.times(2 * MIB)).unwrap();
    let inner = Loop::part(&path, 64 << 10, MIB);
    Swap::new().make(inner.path());
    drop(inner);
    let source = disk::open(&path, Open::default()).unwrap();
    let regions = volumes::scan(&source, Scan::Auto).unwrap().regions;
    assert_eq!(regions[0].name, None);
    assert_eq!(regions[0].used, 2 * MIB);
}

#[test]
fn an_area_that_is_swapped_to_is_refused_and_by_force_all_of_it_is_in_use_as_root() {
    let dir = Dir::new("swap-busy");
    let path = dir.join("area.raw");
    fs::write(&path, Marker::A.times(4 * MIB)).unwrap();
    let device = Loop::over(&path);
    let _swapping = Swapping::on(device.path());
    let run = format!("--no-sync {} image.qcow2", device.path().display());
    dir.run(&run).exits(1).says("swap");

    // Not imaged: a system that is short of memory writes to it meanwhile.
    let open = Open {
        force: Force::Yes,
        ..Open::default()
    };
    let source = disk::open(device.path(), open).unwrap();
    let allocation = volumes::scan(&source, Scan::Auto).unwrap();
    assert_eq!(allocation.map.used(), 4 * MIB);
    assert!(allocation.regions.is_empty(), "{:?}", allocation.regions);
}
