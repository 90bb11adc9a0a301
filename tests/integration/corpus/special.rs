//! Images with a past: snapshots, bitmaps, crashes, changes of size and format; and those of other programs.

use super::content::{CLUSTERS, Clusters, NOISE, TEXT, changed, compressed, half, mixed, write};
use super::recipe::Recipe;

const OLDEST: &str = "first";
/// A name that is not a word.
const NEWER: &str = "after lunch, größer";

/// Two snapshots, and changes after each.
pub(super) fn snapshots() -> Vec<Recipe> {
    let formats = [
        ("v2", "compat=0.10"),
        ("v3", "compat=1.1"),
        ("rc8", "refcount_bits=8"),
        ("rc64", "refcount_bits=64"),
        ("extended", "extended_l2=on"),
    ];
    let mut recipes = Vec::new();
    for clusters in CLUSTERS {
        for (name, options) in formats {
            if name == "extended" && clusters.bytes < 16 << 10 {
                continue;
            }
            let options = format!("{options},cluster_size={}", clusters.bytes);
            recipes.push(
                Recipe::new(format!("snapshots-{name}-{}-zlib", clusters.name))
                    .create(&options, clusters.disk)
                    .io(mixed(clusters).into_iter().chain(compressed(clusters)))
                    .snapshot(OLDEST)
                    .io(changed(clusters))
                    .snapshot(NEWER)
                    .io([write(TEXT, 0, clusters.bytes.min(64 << 10) / 2)]),
            );
        }
    }
    // The state of a machine lies behind the end of the disk.
    recipes.push(
        Recipe::new("snapshots-state")
            .create("cluster_size=4096", 1 << 20)
            .io(["write -q -P 1 0 8192", "write -q -b -P 2 0 10240"])
            .snapshot(OLDEST)
            .io(["write -q -P 3 4096 8192"]),
    );
    recipes.push(
        Recipe::new("snapshots-resized")
            .create("cluster_size=512", 60_416)
            .io([write(NOISE, 0, 60_416)])
            .snapshot(OLDEST)
            .img("resize -q {} 200192")
            .io([write(TEXT, 50_176, 100_352)])
            .snapshot(NEWER)
            .img("resize -q --shrink {} 20480"),
    );
    recipes.push(data_file_free(
        Recipe::new("snapshots-deleted").create("cluster_size=4096", 1 << 20),
    ));
    recipes
}

/// A snapshot that came and went: its clusters are free again, and COPIED bits are back.
fn data_file_free(recipe: Recipe) -> Recipe {
    recipe
        .io([write(NOISE, 0, 40_960)])
        .img("snapshot -q -c gone {}")
        .io([write(TEXT, 4096, 8192)])
        .img("snapshot -q -d gone {}")
}

/// One that counts, one that is disabled, one that is empty; each of another granularity.
pub(super) fn bitmaps() -> Vec<Recipe> {
    let recipes = CLUSTERS.into_iter().map(|clusters| {
        Recipe::new(format!("bitmaps-{}", clusters.name))
            .create(&format!("cluster_size={}", clusters.bytes), clusters.disk)
            .img("bitmap --add -g 4096 {} counts")
            .io(mixed(clusters))
            .img("bitmap --add --disable -g 512 {} disabled")
            .img("bitmap --add {} empty")
            .io(changed(clusters))
    });
    recipes.collect()
}

/// Refcounts that are written late: by a program that ended well, and by one that was killed.
pub(super) fn lazy_refcounts() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for clusters in CLUSTERS {
        let create = |name: &str| {
            let options = format!("lazy_refcounts=on,cluster_size={}", clusters.bytes);
            Recipe::new(format!("lazy-{name}-{}", clusters.name)).create(&options, clusters.disk)
        };
        recipes.push(create("closed").io(mixed(clusters)));
        let killed = mixed(clusters)
            .into_iter()
            .chain(["flush".to_owned(), "sigraise 9".to_owned()]);
        recipes.push(create("dirty").io(killed));
    }
    recipes
}

/// Grown and shrunk, with data where the end was.
pub(super) fn resized() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for clusters in CLUSTERS {
        let Clusters { name, bytes, disk } = clusters;
        for format in ["compat=0.10", "compat=1.1", "extended_l2=on"] {
            if format.starts_with("extended") && bytes < 16 << 10 {
                continue;
            }
            let kind = format.rsplit('=').next().unwrap();
            let options = format!("{format},cluster_size={bytes}");
            let create = |what: &str| {
                let recipe = Recipe::new(format!("{what}-{kind}-{name}-zlib")).create(&options, disk);
                recipe.io(mixed(clusters).into_iter().chain(compressed(clusters)))
            };
            let up = disk + 70 * bytes.min(4096) + 512;
            recipes.push(create("grown").img(&format!("resize -q {{}} {up}")).io([write(
                TEXT,
                up - 512,
                512,
            )]));
            // In the middle of a compressed cluster: what is behind the end must not come back.
            let down = 14 * bytes + half(bytes);
            recipes.push(
                create("shrunk")
                    .img(&format!("resize -q --shrink {{}} {down}"))
                    .img(&format!("resize -q {{}} {disk}")),
            );
        }
    }
    recipes
}

/// Given another format after they were made: a version up or down, another width of refcounts, a new backing file.
pub(super) fn rewritten() -> Vec<Recipe> {
    let clusters = CLUSTERS[1];
    let create = |name: &str, compat: &str| {
        let options = format!("compat={compat},cluster_size={}", clusters.bytes);
        let recipe = Recipe::new(name).create(&options, clusters.disk);
        recipe.io(mixed(clusters))
    };
    vec![
        create("amended-up", "0.10").img("amend -q -f qcow2 -o compat=1.1 {}"),
        create("amended-down", "1.1").img("amend -q -f qcow2 -o compat=0.10 {}"),
        create("amended-refcounts", "1.1").img("amend -q -f qcow2 -o refcount_bits=32 {}"),
        create("converted-zstd", "1.1")
            .img("convert -q -c -W -f qcow2 -O qcow2 -o compression_type=zstd {} {}.new")
            .run("mv {}.new {}"),
        create("converted-packed", "1.1")
            .img("convert -q -f qcow2 -O qcow2 -o cluster_size=1024 {} {}.new")
            .run("mv {}.new {}"),
    ]
}

/// A small ext4, imaged by e2image: right in its tables, wrong in its refcounts.
pub(super) fn by_others() -> Vec<Recipe> {
    let e2image = Recipe::new("e2image")
        .run("mkdir e2image.d")
        .run("cp noise-1 text-1 e2image.d")
        .run("mkfs.ext4 -q -d e2image.d e2image.ext4 8M")
        .run("e2image -Qa e2image.ext4 {}");
    vec![e2image]
}
