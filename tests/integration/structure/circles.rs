//! Circles of imports.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Imports;

/// A line for each import that is part of a circle, those of the same circle one behind the other.
pub fn circles(imports: &Imports) -> Vec<String> {
    let mut told = Vec::new();
    for circle in found(imports) {
        let is_part = |(taker, giver): &(String, String)| {
            circle.contains(taker.as_str()) && circle.contains(giver.as_str())
        };
        told.extend(imports.iter().filter(|(files, _)| is_part(files)).map(arrow));
    }
    told
}

/// An import in words.
pub fn arrow(((taker, giver), names): (&(String, String), &BTreeSet<String>)) -> String {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    format!("{taker} takes {} from {giver}", names.join(", "))
}

/// The files of each circle: those that lead to each other.
fn found(imports: &Imports) -> BTreeSet<BTreeSet<&str>> {
    let mut given: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (taker, giver) in imports.keys() {
        given.entry(taker).or_default().push(giver);
    }
    let reached: BTreeMap<_, _> = given.keys().map(|file| (*file, reach(file, &given))).collect();
    let circle = |file: &&str| -> BTreeSet<_> {
        let there = reached[*file].iter();
        there
            .copied()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(*file)))
            .collect()
    };
    let circles = reached.keys().map(circle);
    circles.filter(|circle| !circle.is_empty()).collect()
}

/// All files that a file takes from, and those that they take from, and so on.
fn reach<'a>(file: &str, given: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![file]);
    while let Some(file) = open.pop() {
        for giver in given.get(file).into_iter().flatten() {
            if reached.insert(*giver) {
                open.push(giver);
            }
        }
    }
    reached
}
