//! Images that are not alone: backing files behind them, a data file next to them.

use super::content::{CLUSTERS, Clusters, NOISE, TEXT, changed, compressed, mixed, write};
use super::recipe::Recipe;

/// What the disk at the bottom of a chain is.
const BASES: [&str; 2] = ["raw", "qcow2"];

/// Three disks one behind the other: each of another size, with other clusters, named relative to the next.
pub(super) fn chains() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for (number, clusters) in CLUSTERS.into_iter().enumerate() {
        for base in BASES {
            for options in ["compat=0.10", "compat=1.1", "extended_l2=on"] {
                if options.starts_with("extended") && clusters.bytes < 16 << 10 {
                    continue;
                }
                // Clusters of the middle disk are those of another size, whatever comes next.
                let middle = CLUSTERS[(number + 1) % CLUSTERS.len()];
                let kind = options.rsplit('=').next().unwrap();
                let name = format!("chain-{base}-{kind}-{}-zlib", clusters.name);
                recipes.push(chain(&name, base, options, clusters, middle));
            }
        }
    }
    recipes
}

fn chain(name: &str, base: &str, options: &str, top: Clusters, middle: Clusters) -> Recipe {
    let (base_file, middle_file) = (format!("{name}.base"), format!("{name}.middle"));
    // Longer than the top one or shorter, and not a whole number of clusters: only the raw one can end inside of
    // a sector's neighbourhood that no cluster size divides.
    let base_size = if base == "raw" {
        top.disk / 3 / 512 * 512 + 512
    } else {
        top.disk + 4096
    };
    let middle_size = (top.disk / 2).max(20 * middle.bytes.min(64 << 10)) / 512 * 512;
    let bottom = [
        write(NOISE, 0, base_size.min(200 << 10) / 512 * 512),
        write(TEXT, base_size - 1024, 1024),
    ];
    let between = [
        write(TEXT, 4096, 8192),
        format!("write -q -z {} 4096", 32 << 10),
        write(NOISE, middle_size - 512, 512),
    ];
    let unit = top.bytes;
    // Compressed clusters first: qemu compresses nothing where there is something. What is written over a part of
    // one leaves the rest to the stream.
    let on_top = compressed(top).into_iter().chain(changed(top));
    let cluster_size = if base == "raw" {
        ""
    } else {
        "-o cluster_size=1024 "
    };
    Recipe::new(name)
        .follow()
        .run(&format!(
            "qemu-img create -q -f {base} {cluster_size}{base_file} {base_size}"
        ))
        .io_on(&base_file, base, bottom)
        .run(&format!(
            "qemu-img create -q -f qcow2 -F {base} -b {base_file} -o cluster_size={} {middle_file} {middle_size}",
            middle.bytes
        ))
        .io_on(&middle_file, "qcow2", between)
        .run(&format!(
            "qemu-img create -q -f qcow2 -F qcow2 -b {middle_file} -o {options},cluster_size={unit} {{}} {}",
            top.disk
        ))
        .io(on_top)
}

/// Clusters in a file of their own, which may have to be a raw disk at all times.
pub(super) fn data_files() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for clusters in CLUSTERS {
        for raw in ["off", "on"] {
            for extended in ["off", "on"] {
                if extended == "on" && clusters.bytes < 16 << 10 {
                    continue;
                }
                let name = format!("data-file-raw-{raw}-extended-{extended}-{}", clusters.name);
                let options = format!(
                    "data_file={name}.data,data_file_raw={raw},extended_l2={extended},cluster_size={}",
                    clusters.bytes
                );
                let recipe = Recipe::new(name).follow().create(&options, clusters.disk);
                recipes.push(recipe.io(mixed(clusters)));
            }
        }
    }
    recipes
}
