//! Images that stand alone: every format, every preallocation, odd sizes.

use super::content::{CLUSTERS, Clusters, NOISE, compressed, mixed, write};
use super::recipe::Recipe;

/// Compat, cluster size, width of refcounts, compression, extended L2 entries: all combinations that qemu makes.
pub(super) fn every_format() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for clusters in CLUSTERS {
        for compression in [None, Some("zlib")] {
            recipes.push(format(clusters, "compat=0.10", "v2", compression));
        }
        for refcount_bits in [1, 8, 16, 64] {
            for compression in [None, Some("zlib"), Some("zstd")] {
                for extended in [false, true] {
                    if extended && clusters.bytes < 16 << 10 {
                        continue;
                    }
                    let extension = if extended { "-extended" } else { "" };
                    let name = format!("v3-rc{refcount_bits}{extension}");
                    let options = [
                        Some(format!("compat=1.1,refcount_bits={refcount_bits}")),
                        compression.map(|name| format!("compression_type={name}")),
                        extended.then(|| "extended_l2=on".to_owned()),
                    ];
                    let options: Vec<_> = options.into_iter().flatten().collect();
                    let options = options.join(",");
                    recipes.push(format(clusters, &options, &name, compression));
                }
            }
        }
    }
    recipes
}

fn format(clusters: Clusters, options: &str, name: &str, compression: Option<&str>) -> Recipe {
    let mut commands = mixed(clusters);
    let mut name = format!("{name}-{}", clusters.name);
    if let Some(compression) = compression {
        commands.extend(compressed(clusters));
        name = format!("{name}-{compression}");
    }
    let options = format!("{options},cluster_size={}", clusters.bytes);
    Recipe::new(name).create(&options, clusters.disk).io(commands)
}

/// All modes of preallocation, with a few writes into what they allocated.
pub(super) fn every_preallocation() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for clusters in CLUSTERS {
        for mode in ["off", "metadata", "falloc", "full"] {
            for format in ["compat=0.10", "compat=1.1", "extended_l2=on"] {
                if format.starts_with("extended") && clusters.bytes < 16 << 10 {
                    continue;
                }
                let options = format!("{format},cluster_size={},preallocation={mode}", clusters.bytes);
                let kind = format.rsplit('=').next().unwrap();
                let name = format!("preallocated-{mode}-{kind}-{}", clusters.name);
                let disk = clusters.disk.min((4 << 20) + 512);
                let unit = clusters.bytes.min(64 << 10);
                let commands = [
                    write(NOISE, 0, unit),
                    write(NOISE, 3 * unit + 512, unit),
                    format!("write -q -z {} {unit}", 5 * unit),
                    format!("discard -q {} {unit}", 7 * unit),
                    write(NOISE, disk - 512, 512),
                ];
                recipes.push(Recipe::new(name).create(&options, disk).io(commands));
            }
        }
    }
    recipes
}

/// From nothing at all to more than one L2 table of the usual cluster size; qemu rounds up to sectors.
pub(super) fn every_size() -> Vec<Recipe> {
    let sizes = [0_u64, 1, 512, 65_535, 65_536, 65_537, 1_000_000];
    let small = sizes.into_iter().flat_map(|size| {
        ["0.10", "1.1"].map(|compat| {
            let recipe =
                Recipe::new(format!("size-{size}-{compat}")).create(&format!("compat={compat}"), size);
            match size {
                0 => recipe,
                _ => recipe.io([write(NOISE, 0, size.next_multiple_of(512))]),
            }
        })
    });
    // The second L2 table begins at 512 MiB.
    let far = Recipe::new("size-600M").create("compat=1.1", 600 << 20).io([
        write(NOISE, 4096, 4096),
        write(NOISE, (512 << 20) - 4096, 8192),
        write(NOISE, (600 << 20) - 512, 512),
    ]);
    small.chain([far]).collect()
}
