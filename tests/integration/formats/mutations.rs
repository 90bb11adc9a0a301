//! Images with a few bytes changed at random, by the same dice every time: read, or refused; never a panic.

use std::fs;

use super::by_hand::Image;
use super::malformed::{create, restore};
use crate::corpus::in_parallel;
use crate::mutations::targets;
use crate::support::{Dice, Dir};

/// How many images of each format are tried.
const IMAGES: u64 = 2000;

/// One of so many is shown to the program as well, not only to the library.
const SHOWN: u64 = 10;

/// Values that are limits somewhere.
const INTERESTING: [u64; 10] = [
    0,
    1,
    2,
    0x1ff,
    0x1000,
    0x7fff_ffff,
    1 << 32,
    1 << 63,
    u64::MAX - 511,
    u64::MAX,
];

/// One to four changes, most of them to header and tables.
fn mutate(image: &Image, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = image.bytes.clone();
    for _ in 0..=dice.below(4) {
        let length = bytes.len() as u64;
        let at = match dice.below(4) {
            0 | 1 => dice.below(64),
            // An entry that says something.
            2 => {
                let table = [image.l1, image.l2[0], image.l2[1]][dice.below(3) as usize];
                table as u64 + dice.below(3) * 8 + dice.below(8)
            }
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
                    0 => INTERESTING[dice.below(10) as usize],
                    1 => dice.below(length + 9000) / 512 * 512,
                    _ => 1 << dice.below(64),
                };
                let value = match dice.below(2) {
                    0 => value.to_be_bytes()[8 - width..].to_vec(),
                    _ => value.to_le_bytes()[..width].to_vec(),
                };
                if let Some(number) = bytes.get_mut(at..at + width) {
                    number.copy_from_slice(&value);
                }
            }
        }
    }
    bytes
}

#[test]
fn no_mutated_image_makes_the_reader_panic() {
    let seeds: Vec<u64> = (0..IMAGES).collect();
    let (qcow, qed, small) = (Image::qcow(), Image::qed(2), Image::qed(1));
    in_parallel(&seeds, |seed| {
        let mut dice = Dice::new(*seed);
        targets::qcow(&mutate(&qcow, &mut dice));
        targets::qed(&mutate(if seed % 2 == 0 { &qed } else { &small }, &mut dice));
    });
}

#[test]
fn a_mutated_image_is_refused_or_becomes_a_sound_one() {
    let dir = Dir::new("formats-mutations");
    let seeds: Vec<u64> = (0..IMAGES / SHOWN).collect();
    let good = [("qcow", Image::qcow()), ("qed", Image::qed(2))];
    let read: Vec<usize> = in_parallel(&seeds, |seed| {
        let mut read = 0;
        for (format, image) in &good {
            let at = dir.join(format!("{seed}-{format}"));
            fs::create_dir(&at).unwrap();
            // Those of the other test, not the same ones.
            let bytes = mutate(image, &mut Dice::new(seed + IMAGES));
            fs::write(at.join("bad"), &bytes).unwrap();
            let made = create(&at, format);
            made.assert_calm(&format!("{format} {seed}: create"));
            let restored = restore(&at);
            restored.assert_calm(&format!("{format} {seed}: restore"));
            assert_eq!(made.target.is_some(), made.status == 0, "{format} {seed}");
            if let (Some(_), Some(restored)) = (&made.target, &restored.target) {
                let _ = restored;
                read += 1;
            }
            fs::remove_dir_all(&at).unwrap();
        }
        read
    });
    let read: usize = read.into_iter().sum();
    assert!(read > 20, "only {read} images can be read");
}
