//! Progress: a bar on a terminal, lines elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::console;
use mkqcow2::Progress;
use mkqcow2::progress::Phase;

/// How often a line is shown where there is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(5);

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

/// The bar; clones show the same one.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    inner: ProgressBar,
    style: Style,
    last_line: Arc<Mutex<Instant>>,
}

impl Bar {
    pub(crate) fn new(style: Style) -> Self {
        // Drawn from the first phase on, which tells what to draw.
        let inner = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self {
            inner,
            style,
            last_line: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn end(&self) {
        self.inner.finish_and_clear();
    }

    /// Does something that needs the terminal for itself.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.inner.suspend(work)
    }

    fn line(&self) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < LINES_EVERY {
            return;
        }
        *last = Instant::now();
        let (done, total) = (self.inner.position(), self.inner.length().unwrap_or(0));
        console::say(&format!(
            "{}{} of {}, {}/s, {} left",
            self.inner.prefix(),
            BinaryBytes(done),
            BinaryBytes(total),
            console::per_second(done, self.inner.elapsed()),
            HumanDuration(self.inner.eta())
        ));
    }
}

impl Progress for Bar {
    fn begin(&self, phase: Phase, total: u64) {
        let (title, template) = look(phase);
        // The templates are tested.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.inner.set_style(style);
        self.inner.set_prefix(title);
        self.inner.set_length(total);
        self.inner.reset();
        if self.style == Style::Terminal {
            self.inner.set_draw_target(ProgressDrawTarget::stderr());
            self.inner.enable_steady_tick(Duration::from_millis(200));
        }
    }

    fn advance(&self, bytes: u64) {
        match self.style {
            Style::Hidden => {}
            Style::Terminal => self.inner.inc(bytes),
            Style::Lines => {
                self.inner.inc(bytes);
                self.line();
            }
        }
    }
}

/// What is drawn in a phase that deals with bytes.
const BYTES: &str = "{prefix}{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// What is drawn in a phase of which nobody knows how far it is.
const TIME: &str = "{spinner} {prefix}, {elapsed}";

/// What a phase is called, and what is drawn in it. The first one, which is what was asked for, needs no name.
fn look(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Copying | Phase::Comparing | Phase::Checking => ("", BYTES),
        Phase::Measuring => ("measuring ", BYTES),
        Phase::Syncing => ("syncing", TIME),
        Phase::Verifying => ("verifying ", BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_templates() {
        for template in [BYTES, TIME] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
