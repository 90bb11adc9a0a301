//! Filesystems that were cut off: whatever the kernel recovers from their log is there, although all that the map
//! calls free was overwritten.

mod moment;
mod recovered;
mod story;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mkqcow2::volumes::Treatment;

use super::listed::{free_blocks, in_bytes};
use super::{free, scan};
use crate::corpus::in_parallel;
use crate::filesystems::proof::MIB;
use crate::support::loops::Loop;
pub use moment::{Cut, Moment};
use recovered::Recovered;
pub use story::Story;

/// How mkfs.xfs makes a filesystem, and how large.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub options: &'static str,
    pub size: u64,
}

/// Each has another log, other trees, and other groups.
pub const LAYOUTS: [Layout; 5] = [
    Layout {
        options: "",
        size: 64 * MIB,
    },
    Layout {
        options: "-m rmapbt=1 -b size=1024 -d agcount=4",
        size: 64 * MIB,
    },
    Layout {
        options: "-m reflink=0 -d agcount=1 -l size=4m",
        size: 64 * MIB,
    },
    Layout {
        options: "-m rmapbt=1 -s size=4096 -d agcount=8 -l size=15m,su=64k -i nrext64=1",
        size: 160 * MIB,
    },
    Layout {
        options: "-m reflink=0,finobt=0,inobtcount=0 -i sparse=0 -b size=1024 -d agcount=2 -l size=3m",
        size: 64 * MIB,
    },
];

/// A filesystem, what is done to it, and when it is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub layout: Layout,
    pub story: Story,
    pub moment: Moment,
    pub seed: u64,
}

impl Crash {
    /// 60: each story with each layout, and with each moment.
    fn all() -> Vec<Self> {
        let stories = Story::ALL.into_iter().enumerate();
        let crashes = stories.flat_map(|(row, story)| {
            let layouts = LAYOUTS.into_iter().enumerate();
            layouts.map(move |(column, layout)| Self {
                layout,
                story,
                moment: Moment::ALL[(row + column) % Moment::ALL.len()],
                seed: (row * LAYOUTS.len() + column) as u64,
            })
        });
        crashes.collect()
    }

    /// Whose it is: the name of its directory.
    fn name(&self) -> String {
        let name = format!("xfs-{:?}-{}", self.story, self.seed);
        name.to_lowercase()
    }

    /// The disk as it was at that moment.
    #[track_caller]
    pub fn cut(&self, test: &str) -> Cut {
        Cut::of(self, &format!("{test}-{}", self.name()))
    }
}

/// How a copy fared.
#[derive(Clone, Debug, Default)]
struct Outcome {
    is_mapped: bool,
    /// Blocks that the kernel has in use after recovery, and the map calls free.
    taken_later: usize,
    synced: usize,
    /// What recovery has to finish.
    pending: BTreeSet<String>,
}

/// Holds a copy to all that the kernel makes of it.
#[track_caller]
fn judged(crash: &Crash) -> Outcome {
    let cut = crash.cut("cut");
    let allocation = scan(&cut.disk);
    let is_mapped = matches!(allocation.regions[0].treatment, Treatment::Mapped);
    let free = free(&allocation);
    assert_eq!(is_mapped, !free.is_empty(), "{:?}", allocation.regions);

    let plain = Recovered::of(&cut, "plain.raw", &[]);
    plain.assert_has_synced(&cut);
    assert_nothing_is_missed(&cut, &plain, &free);
    let (later, block) = (free_blocks(&plain.disk), plain.block_size);
    let blocks = free
        .iter()
        .flat_map(|range| range.clone().step_by(block as usize));
    let taken_later = blocks.filter(|at| !later.contains(&(at / block))).count();
    plain.forget();
    if crash.seed.is_multiple_of(7) {
        assert_comes_back(&cut);
    }
    Outcome {
        is_mapped,
        taken_later,
        synced: cut.synced.len(),
        pending: moment::pending(&cut.disk),
    }
}

/// Overwrites what is said to be free, and holds what the kernel makes of it to what it makes of all.
#[track_caller]
fn assert_nothing_is_missed(cut: &Cut, plain: &Recovered, free: &[Range<u64>]) {
    let poisoned = Recovered::of(cut, "poisoned.raw", free);
    poisoned.assert_has_synced(cut);
    poisoned.assert_equals(plain);
    poisoned.forget();
}

/// By the program, onto a disk of ones, of which only what is in use is overwritten.
#[track_caller]
fn assert_comes_back(cut: &Cut) {
    let dir = &cut.place.dir;
    dir.run("-q --no-sync disk.raw image.qcow2").exits(0);
    let target = dir.join("restored.raw");
    let size = cut.disk.metadata().unwrap().len();
    fs::write(&target, vec![0xff; size as usize]).unwrap();
    let device = Loop::over(&target);
    let run = format!(
        "restore -q --no-sync --used-only image.qcow2 {}",
        device.path().display()
    );
    dir.run(&run).exits(0);
    drop(device);
    Recovered::mounting(target, cut).assert_has_synced(cut);
}

#[test]
#[expect(clippy::print_stdout, reason = "figures, for those who ask for them")]
fn nothing_that_the_kernel_recovers_is_called_free_as_root() {
    let crashes = Crash::all();
    assert_eq!(crashes.len(), 60);
    let outcomes = in_parallel(&crashes, |crash| {
        let outcome = catch_unwind(AssertUnwindSafe(|| judged(crash)));
        outcome.map_err(|_| format!("{crash:?}"))
    });
    let lost: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .collect();
    assert!(lost.is_empty(), "lost: {lost:#?}");

    let outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
    let count = |is_so: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is_so(outcome)).count();
    let (mapped, unfinished) = (
        count(|outcome| outcome.is_mapped),
        count(|outcome| !outcome.pending.is_empty()),
    );
    let synced: usize = outcomes.iter().map(|outcome| outcome.synced).sum();
    let taken: usize = outcomes.iter().map(|outcome| outcome.taken_later).sum();
    let pending: BTreeSet<_> = outcomes.iter().flat_map(|outcome| &outcome.pending).collect();
    let told = format!(
        "{mapped} of {} copies are mapped; {synced} synced files, none lost; {taken} blocks that are free by the map \
         are used after recovery; {unfinished} copies have intents that are not done: {pending:?}",
        outcomes.len()
    );
    println!("{told}");
    assert!(synced >= 60 * 100 && unfinished >= 3, "{told}");
    assert!(mapped * 10 >= outcomes.len() * 9, "{told}");
}

#[test]
fn nothing_is_lost_of_a_filesystem_that_was_just_resized_as_root() {
    for (seed, moment) in (0..).zip([Moment::ShutDown, Moment::Copied, Moment::Frozen]) {
        let layout = Layout {
            options: "-d size=48m,agcount=3",
            size: 64 * MIB,
        };
        let story = Story::Resized;
        let outcome = judged(&Crash {
            layout,
            story,
            moment,
            seed,
        });
        assert!(outcome.synced >= 100);
    }
}

#[test]
fn nothing_is_lost_of_a_filesystem_of_large_blocks_as_root() {
    let layouts = [
        ("-b size=8192 -m rmapbt=1 -d agcount=1", 96),
        ("-b size=16384 -d agcount=1", 64),
        ("-b size=32768 -l size=64m", 400),
    ];
    for (seed, (options, mib)) in (0..).zip(layouts) {
        let size = mib * MIB;
        let outcome = judged(&Crash {
            layout: Layout { options, size },
            story: Story::Mixed,
            moment: Moment::Flushed,
            seed,
        });
        assert!(outcome.is_mapped && outcome.synced >= 100, "{options}");
    }
}

/// The proof can fail: with the map that is on the disk, something is missed.
#[test]
fn the_map_on_the_disk_alone_loses_what_the_log_has_as_root() {
    let crashes: Vec<_> = Crash::all()
        .into_iter()
        .filter(|crash| crash.moment != Moment::Frozen)
        .step_by(5)
        .collect();
    let noticed = in_parallel(&crashes, |crash| {
        let cut = crash.cut("oracle");
        let plain = Recovered::of(&cut, "plain.raw", &[]);
        let on_disk = in_bytes(free_blocks(&cut.disk), plain.block_size);
        let is_missed = || assert_nothing_is_missed(&cut, &plain, &on_disk);
        catch_unwind(AssertUnwindSafe(is_missed)).is_err()
    });
    let count = noticed.iter().filter(|is_noticed| **is_noticed).count();
    assert!(count * 2 > noticed.len(), "{noticed:?}");
}
