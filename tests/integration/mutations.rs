//! Images with a few bytes changed at random, by the same dice every time, through what the fuzz targets do.

pub mod targets;

use crate::corpus::in_parallel;
use crate::malformed::good_images;
use crate::support::Dice;

/// How many images are tried.
const IMAGES: u64 = 4000;

/// Values that are limits somewhere.
const INTERESTING: [u64; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x1000, 0x7fff_ffff, u64::MAX];

#[test]
fn no_mutated_image_makes_the_reader_panic() {
    let good = good_images();
    let seeds: Vec<u64> = (0..IMAGES).collect();
    in_parallel(&seeds, |seed| {
        let mut dice = Dice::new(*seed);
        let mut bytes = good[*seed as usize % good.len()].clone();
        mutate(&mut bytes, &mut dice);
        targets::header(&bytes);
        targets::tables(&bytes[dice.below(bytes.len() as u64) as usize..]);
        targets::image(&bytes);
    });
}

#[test]
fn no_mutated_record_makes_the_reader_panic() {
    // Free clusters 0, 3 to 48 and 51 to 99; unreadable bytes; a sector size; a kind of its own.
    let section = |kind: u32, data: &[u8]| {
        let mut section = kind.to_be_bytes().to_vec();
        section.extend((data.len() as u64).to_be_bytes());
        section.extend(data);
        section
    };
    let runs = |count: u64, total: u64, numbers: &[u8]| {
        let mut data = count.to_be_bytes().to_vec();
        data.extend(total.to_be_bytes());
        data.extend(numbers);
        data
    };
    let good = [
        section(1, &runs(3, 96, &[0, 1, 3, 46, 1, 49])),
        section(2, &runs(2, 1024, &[0x80, 8, 0x80, 4, 0x80, 0x10, 0x80, 4])),
        section(3, &[0, 0, 0x10, 0]),
        section(77, b"something that is passed over"),
    ]
    .concat();
    targets::record(&good);
    let seeds: Vec<u64> = (0..IMAGES).collect();
    in_parallel(&seeds, |seed| {
        let mut dice = Dice::new(*seed);
        let mut bytes = good.clone();
        mutate(&mut bytes, &mut dice);
        targets::record(&bytes);
    });
}

/// One to four changes, most of them to metadata: these come first, and each takes the beginning of its cluster.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let length = bytes.len() as u64;
        let at = match dice.below(4) {
            0 => dice.below(length.min(200)),
            1 => dice.below(length.div_ceil(4096)) * 4096 + dice.below(64),
            2 => dice.below(length.min(0x8000)),
            _ => dice.below(length),
        };
        let at = at.min(length - 1) as usize;
        match dice.below(8) {
            0 => bytes.truncate(at + 1),
            1 | 2 => bytes[at] ^= 1 << dice.below(8),
            3 | 4 => bytes[at] = dice.below(256) as u8,
            kind => {
                // A number of 4 or 8 bytes, at its natural place.
                let width = if kind == 5 { 4 } else { 8 };
                let at = at / width * width;
                let value = match dice.below(3) {
                    0 => INTERESTING[dice.below(8) as usize],
                    // Somewhere in the file, or nearly.
                    1 => (dice.below(length / 2048) * 4096) | (dice.below(4) << 62),
                    _ => 1 << dice.below(64),
                };
                let value = &value.to_be_bytes()[8 - width..];
                if let Some(number) = bytes.get_mut(at..at + width) {
                    number.copy_from_slice(value);
                }
            }
        }
    }
}
