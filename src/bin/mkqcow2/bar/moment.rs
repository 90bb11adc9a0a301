//! The state of the work at a moment as one line of text: all of it, or as much as fits.

use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration};

use mkqcow2::progress::{Phase, Retrying};

/// A time left that is longer is not told: the work hardly goes on at all.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The name of a phase with its percentage at most: `verifying 100%`.
const HEAD: usize = 14;

/// The widest time left: `99w left`.
const LEFT: usize = 8;

/// The widest pair of amounts: `1023.99 MiB of 1023.99 MiB`.
const AMOUNT: usize = 26;

/// The widest rate: `1023.99 MiB/s`.
const RATE: usize = 13;

/// What comes between two fields.
const COMMA: &str = ", ";

/// The gauge with its brackets: `[####......]`.
const GAUGE: std::ops::RangeInclusive<usize> = 10..=52;

/// What is known of the work at a moment.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// None before there is one.
    pub(super) phase: Option<Phase>,
    /// How long the phase has taken.
    pub(super) elapsed: Duration,
    /// How much is done, in bytes.
    pub(super) done: u64,
    /// Of how much; 0 if that is not known.
    pub(super) total: u64,
    /// In bytes per second.
    pub(super) rate: u64,
    pub(super) left: Duration,
    pub(super) retrying: Option<Retrying>,
}

impl Moment {
    /// All that is known.
    pub(super) fn line(&self) -> String {
        match self.retrying {
            Some(retrying) => all_of(retrying),
            None if self.total == 0 => self.with_time(),
            None => {
                let fields = [Some(self.amount()), self.speed(), self.left()];
                joined(self.head(), fields.into_iter().flatten())
            }
        }
    }

    /// What fits into so many columns. Which fields that are depends on nothing else, or they would come and go.
    pub(super) fn bar(&self, columns: usize) -> String {
        let percentage = || format!("{}%", self.percentage());
        match self.retrying {
            Some(retrying) => first_that_fits(columns, shorter_and_shorter(retrying)),
            None if self.total == 0 => first_that_fits(columns, [self.with_time(), self.name().to_owned()]),
            None => match columns.checked_sub(HEAD) {
                None => first_that_fits(columns, [percentage()]),
                Some(room) => self.fields(room),
            },
        }
    }

    /// The bar, with so many columns behind its head.
    fn fields(&self, mut room: usize) -> String {
        let mut has_room = |width: usize| {
            let rest = room.checked_sub(width.saturating_add(COMMA.len()));
            room = rest.unwrap_or(room);
            rest.is_some()
        };
        // The most useful field first. Room is kept for those that are not known yet.
        let left = has_room(LEFT).then(|| self.left()).flatten();
        let amount = has_room(AMOUNT).then(|| self.amount());
        let rate = has_room(RATE).then(|| self.speed()).flatten();
        let fields = [amount, rate, left].into_iter().flatten();
        if room < *GAUGE.start() {
            return joined(self.head(), fields);
        }
        let gauge = self.gauge(room.min(*GAUGE.end()));
        let (name, percentage) = (self.name(), self.percentage());
        let fields: Vec<_> = fields.collect();
        let bar = format!("{name} {percentage:>3}% {gauge} {}", fields.join(COMMA));
        bar.trim_end().to_owned()
    }

    fn head(&self) -> String {
        format!("{} {}%", self.name(), self.percentage())
    }

    fn with_time(&self) -> String {
        format!("{}, {:#}", self.name(), HumanDuration(self.elapsed))
    }

    fn name(&self) -> &'static str {
        match self.phase {
            None => "preparing",
            Some(Phase::Measuring) => "measuring",
            Some(Phase::Copying) => "copying",
            Some(Phase::Syncing) => "syncing",
            Some(Phase::Verifying) => "verifying",
            Some(Phase::Comparing) => "comparing",
            Some(Phase::Checking) => "checking",
        }
    }

    /// Rounded down: at 100 it is done.
    fn percentage(&self) -> u64 {
        self.part_of(100)
    }

    /// As many of `whole` as there are bytes done of all.
    fn part_of(&self, whole: u64) -> u64 {
        let (done, total) = (u128::from(self.done), u128::from(self.total));
        let part = done.saturating_mul(whole.into()).checked_div(total);
        part.and_then(|part| u64::try_from(part).ok())
            .map_or(0, |part| part.min(whole))
    }

    fn amount(&self) -> String {
        // Clusters that share their bytes in an image are read more than once.
        let done = self.done.min(self.total);
        format!("{} of {}", BinaryBytes(done), BinaryBytes(self.total))
    }

    fn speed(&self) -> Option<String> {
        (self.rate > 0).then(|| format!("{}/s", BinaryBytes(self.rate)))
    }

    /// None before it can be estimated, or if it is less than half a second.
    fn left(&self) -> Option<String> {
        let is_known = self.rate > 0 && self.done < self.total && self.left < LONGEST;
        let is_long = self.left >= Duration::from_millis(500);
        (is_known && is_long).then(|| format!("{:#} left", HumanDuration(self.left)))
    }

    fn gauge(&self, width: usize) -> String {
        let inside = width.saturating_sub(2);
        let full = self.part_of(u64::try_from(inside).unwrap_or(u64::MAX));
        let full = usize::try_from(full).unwrap_or(inside);
        format!("[{:.<inside$}]", "#".repeat(full))
    }
}

fn joined(head: String, fields: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = std::iter::once(head).chain(fields).collect();
    all.join(COMMA)
}

fn all_of(retrying: Retrying) -> String {
    let (at, unreadable) = (retrying.at, BinaryBytes(retrying.unreadable));
    format!("retrying unreadable sectors at {at:#x}, {unreadable} unreadable so far")
}

fn shorter_and_shorter(retrying: Retrying) -> [String; 4] {
    let (at, unreadable) = (retrying.at, BinaryBytes(retrying.unreadable));
    [
        all_of(retrying),
        format!("retrying at {at:#x}, {unreadable} unreadable"),
        format!("retrying, {unreadable} unreadable"),
        "retrying".to_owned(),
    ]
}

fn first_that_fits<const N: usize>(columns: usize, texts: [String; N]) -> String {
    let mut texts = texts.into_iter();
    texts.find(|text| text.len() <= columns).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn moment(done: u64, total: u64) -> Moment {
        Moment {
            phase: Some(Phase::Copying),
            elapsed: Duration::from_secs(12),
            done,
            total,
            rate: 250 * MIB,
            left: Duration::from_secs(3),
            retrying: None,
        }
    }

    #[test]
    fn fields_are_left_out_where_they_do_not_fit() {
        let moment = moment(54 * MIB, 128 * MIB);
        for (columns, bar) in [
            (
                119,
                "copying  42% [#####################.............................] 54.00 MiB of 128.00 MiB, \
                 250.00 MiB/s, 3s left",
            ),
            (
                79,
                "copying  42% [####......] 54.00 MiB of 128.00 MiB, 250.00 MiB/s, 3s left",
            ),
            (67, "copying 42%, 54.00 MiB of 128.00 MiB, 250.00 MiB/s, 3s left"),
            (59, "copying 42%, 54.00 MiB of 128.00 MiB, 3s left"),
            (39, "copying 42%, 250.00 MiB/s, 3s left"),
            (24, "copying 42%, 3s left"),
            (19, "copying 42%"),
            (13, "42%"),
            (3, "42%"),
            (2, ""),
            (0, ""),
        ] {
            assert_eq!(moment.bar(columns), bar, "{columns}");
        }
        assert_eq!(
            moment.line(),
            "copying 42%, 54.00 MiB of 128.00 MiB, 250.00 MiB/s, 3s left"
        );
    }

    #[test]
    fn nothing_is_wider_than_it_may_be() {
        let widest = Moment {
            phase: Some(Phase::Verifying),
            elapsed: Duration::MAX,
            done: (1 << 40) - 1,
            total: (1 << 40) - 1,
            rate: (1 << 40) - 1,
            left: LONGEST.mul_f64(0.999),
            retrying: None,
        };
        let retrying = Some(Retrying {
            at: u64::MAX,
            unreadable: (1 << 40) - 1,
        });
        let moments = [
            widest.clone(),
            Moment {
                done: widest.done - 1,
                ..widest.clone()
            },
            Moment {
                total: 0,
                ..widest.clone()
            },
            Moment {
                phase: None,
                total: 0,
                ..widest.clone()
            },
            Moment { retrying, ..widest },
        ];
        for moment in moments {
            for columns in 0..200 {
                let bar = moment.bar(columns);
                assert!(bar.len() <= columns, "{columns}: {bar}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let nothing_done = Moment {
            rate: 0,
            left: Duration::ZERO,
            ..moment(0, MIB)
        };
        assert_eq!(nothing_done.line(), "copying 0%, 0 B of 1.00 MiB");
        assert_eq!(nothing_done.bar(79), "copying   0% [..........] 0 B of 1.00 MiB");
        assert_eq!(nothing_done.bar(49), "copying   0% [........]");
        let stalled = Moment {
            left: Duration::MAX,
            ..moment(1, MIB)
        };
        assert_eq!(stalled.bar(39), "copying 0%, 250.00 MiB/s");
        let syncing = Moment {
            phase: Some(Phase::Syncing),
            ..moment(0, 0)
        };
        assert_eq!(syncing.bar(79), "syncing, 12s");
        assert_eq!(syncing.bar(10), "syncing");
        assert_eq!(syncing.line(), "syncing, 12s");
    }

    #[test]
    fn no_more_than_all_of_it_is_done() {
        assert_eq!(
            moment(3 * MIB, 2 * MIB).line(),
            "copying 100%, 2.00 MiB of 2.00 MiB, 250.00 MiB/s"
        );
        assert_eq!(moment(MIB - 1, MIB).percentage(), 99);
        assert_eq!(moment(u64::MAX, u64::MAX).percentage(), 100);
    }

    #[test]
    fn retries_are_told_instead() {
        let moment = Moment {
            retrying: Some(Retrying {
                at: 0x20_0000,
                unreadable: 37 << 10,
            }),
            ..moment(MIB, 2 * MIB)
        };
        let all = "retrying unreadable sectors at 0x200000, 37.00 KiB unreadable so far";
        assert_eq!(moment.line(), all);
        assert_eq!(moment.bar(79), all);
        assert_eq!(moment.bar(60), "retrying at 0x200000, 37.00 KiB unreadable");
        assert_eq!(moment.bar(39), "retrying, 37.00 KiB unreadable");
        assert_eq!(moment.bar(19), "retrying");
    }
}
