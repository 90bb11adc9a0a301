//! `mkqcow2 mount IMAGE DIRECTORY`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::args::mount::Mount;
use crate::console::{self, print};
use crate::status::WARNING;
use crate::verb::Verb;
use crate::{background, report, signals};
use mkqcow2::Error;
use mkqcow2::error::Side;
use mkqcow2::mount::{Mounting, Unmounter};

impl Verb for Mount {
    fn validate(&self) -> Result<(), String> {
        Self::validate(self)
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("image", &self.image), ("directory", &self.directory)]
    }

    fn path(&self, side: Side) -> &Path {
        match side {
            Side::Source => &self.image,
            Side::Target => &self.directory,
        }
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn advice(&self, error: &Error) -> Option<&'static str> {
        report::mount::advice(error)
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        if !self.foreground {
            return Ok(background::start(&["--foreground", "--in-background"]));
        }
        let unmounter = Arc::new(Mutex::new(None));
        self.end_by_signals(Arc::clone(&unmounter));
        let mounting = Mounting::prepare(&self.image, &self.directory, &self.options())?;
        report::mount::warn(self, mounting.warnings());
        let image = self.image.clone();
        let listener = Arc::new(move |error: &Error| report::mount::failed(&image, error));
        let ready = report::mount::ready(self, &mounting);
        // A signal waits until it is mounted.
        let mut slot = locked(&unmounter);
        let mounted = mounting.mount(listener)?;
        let own = slot.insert(mounted.unmounter()).clone();
        drop(slot);
        let is_told = !self.json.json || print(|out| writeln!(out, "{}", console::json(&ready)));
        if self.in_background && !background::enter() {
            // Whoever started it is gone.
            own.unmount()?;
        }
        let served = mounted.serve();
        // Whoever unmounted it may have to say so yet.
        drop(locked(&unmounter));
        served?;
        Ok(if is_told {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(WARNING)
        })
    }
}

impl Mount {
    /// From now on, a signal ends what is mounted; before that, it kills.
    fn end_by_signals(&self, unmounter: Arc<Mutex<Option<Unmounter>>>) {
        let directory = self.directory.clone();
        signals::end_by(move |signal| {
            let slot = locked(&unmounter);
            if let Some(unmounter) = &*slot {
                report::mount::stopped(&directory, signal, &unmounter.unmount());
            }
            slot.is_some()
        });
    }
}

fn locked(unmounter: &Mutex<Option<Unmounter>>) -> MutexGuard<'_, Option<Unmounter>> {
    unmounter.lock().unwrap_or_else(PoisonError::into_inner)
}
