//! Progress: a bar on a terminal, lines elsewhere.

mod moment;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::console;
use mkqcow2::Progress;
use mkqcow2::progress::{Phase, Retrying};
use moment::Moment;

/// How often the bar is drawn, and how soon.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// How often a line is written where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(5);

/// What is assumed of a terminal that does not tell its width, as those behind a serial line.
const USUAL_WIDTH: u16 = 80;

/// To the beginning of the line, and erase all from there on.
const ERASE: &str = "\r\x1b[J";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not at all.
    Hidden,
    /// A bar that is drawn over and over.
    Terminal,
    /// A line now and then.
    Lines,
}

impl Style {
    /// How it is shown on standard error; without a terminal only if that is asked for.
    pub(crate) fn of_stderr(is_asked_for: bool) -> Self {
        if io::stderr().is_terminal() && has_cursor() {
            Self::Terminal
        } else if is_asked_for {
            Self::Lines
        } else {
            Self::Hidden
        }
    }
}

/// Whether the terminal can move its cursor and erase what it shows. Those that cannot have the name "dumb", or none.
fn has_cursor() -> bool {
    std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

/// Shows how far the work is, from now on until it is dropped. What it shows depends on a clock only: work that waits
/// for a disk, or for whoever reads its output, does not hold it up, nor does a terminal that is stopped hold up the work.
#[derive(Debug)]
pub(crate) struct Bar {
    shared: Arc<Shared>,
}

/// Takes the bar off the terminal from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Eraser {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    style: Style,
    /// Counts, and estimates how fast it goes and how long it takes yet. It draws nothing.
    meter: ProgressBar,
    /// What changes together with the numbers of the meter.
    facts: Mutex<Facts>,
    screen: Mutex<Screen>,
    has_ended: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    phase: Option<Phase>,
    retrying: Option<Retrying>,
}

/// Standard error.
#[derive(Debug, Default)]
struct Screen {
    /// What is drawn, if anything is. The cursor is at its beginning: where a terminal that becomes narrower breaks it,
    /// all of it is still behind the cursor.
    drawn: Option<String>,
    has_ended: bool,
}

impl Bar {
    pub(crate) fn new(style: Style) -> Self {
        let meter = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let shared = Arc::new(Shared {
            style,
            meter,
            facts: Mutex::default(),
            screen: Mutex::default(),
            has_ended: Condvar::new(),
        });
        if style != Style::Hidden {
            let shared = Arc::clone(&shared);
            // If the system has no room for another thread, nothing is shown.
            let _ = std::thread::Builder::new().spawn(move || shared.show());
        }
        Self { shared }
    }

    /// What takes it off the terminal from another thread.
    pub(crate) fn eraser(&self) -> Eraser {
        let shared = Arc::clone(&self.shared);
        Eraser { shared }
    }

    /// Takes the bar off the terminal. It does not come back.
    pub(crate) fn end(&self) {
        self.shared.end();
    }

    /// Does something that needs the terminal for itself.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.shared.style == Style::Hidden {
            return work();
        }
        let mut screen = lock(&self.shared.screen);
        screen.erase();
        work()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

impl Eraser {
    /// As [`Bar::end`].
    pub(crate) fn end(&self) {
        self.shared.end();
    }
}

impl Progress for Bar {
    fn begin(&self, phase: Phase, total: u64) {
        // Locked: the numbers of one phase are never shown with those of another.
        let mut facts = lock(&self.shared.facts);
        *facts = Facts {
            phase: Some(phase),
            retrying: None,
        };
        self.shared.meter.set_length(total);
        self.shared.meter.reset();
    }

    fn advance(&self, bytes: u64) {
        if self.shared.style != Style::Hidden {
            self.shared.meter.inc(bytes);
        }
    }

    fn retrying(&self, retrying: Option<Retrying>) {
        lock(&self.shared.facts).retrying = retrying;
    }
}

impl Shared {
    /// Shows it again and again until it ends.
    fn show(&self) {
        let mut next_line = Instant::now() + LINES_EVERY;
        let mut screen = lock(&self.screen);
        loop {
            let waited = self.has_ended.wait_timeout(screen, BAR_EVERY);
            screen = waited.unwrap_or_else(PoisonError::into_inner).0;
            if screen.has_ended {
                return;
            }
            // It estimates from what it sees.
            self.meter.tick();
            match self.style {
                Style::Hidden => return,
                Style::Terminal => screen.draw(&self.moment().bar(columns())),
                Style::Lines if Instant::now() >= next_line => {
                    console::say(&self.moment().line());
                    next_line += LINES_EVERY;
                }
                Style::Lines => {}
            }
        }
    }

    fn end(&self) {
        if self.style == Style::Hidden {
            return;
        }
        let mut screen = lock(&self.screen);
        screen.erase();
        screen.has_ended = true;
        self.has_ended.notify_all();
    }

    fn moment(&self) -> Moment {
        let facts = lock(&self.facts);
        Moment {
            phase: facts.phase,
            elapsed: self.meter.elapsed(),
            done: self.meter.position(),
            total: self.meter.length().unwrap_or(0),
            rate: whole(self.meter.per_sec()),
            left: self.meter.eta(),
            retrying: facts.retrying,
        }
    }
}

impl Screen {
    fn draw(&mut self, text: &str) {
        if self.drawn.as_deref() == Some(text) {
            return;
        }
        // In one piece. What does not fit after all, because the terminal becomes narrower at this moment, is cut off and
        // not continued in the next row, where it could not be found again.
        write(&format!("{ERASE}\x1b[?7l{text}\x1b[?7h\r"));
        self.drawn = Some(text.to_owned());
    }

    fn erase(&mut self) {
        if self.drawn.take().is_some() {
            write(ERASE);
        }
    }
}

fn write(text: &str) {
    // There is nowhere else to complain.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// How much of a row of the terminal can be used: some terminals go to the next row after the last character of one.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let width = size.map_or(0, |size| size.ws_col);
    let width = if width == 0 { USUAL_WIDTH } else { width };
    usize::from(width).saturating_sub(1)
}

/// The whole part of a rate.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate that is negative, too large or not a number becomes 0 or the largest number"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
