//! The command line of mkqcow2: what was typed becomes options, what comes back becomes text or JSON.
//!
//! A command is three files of the same name: in `args/` what can be typed behind its word, in `report/` what
//! is told of it, and in `verbs/` the run between the two. Its line in [`verbs::ALL`] makes it known.

mod advice;
mod args;
mod background;
mod bar;
mod console;
mod provenance;
mod report;
mod signals;
mod status;
mod verb;
mod verbs;

use std::process::ExitCode;

/// The stack of the thread that does the work: what the first thread of a process usually has.
const STACK: usize = 8 << 20;

/// Leaves the work to another thread. The kernel prefers this one for signals, and one that waits for a disk
/// that does not answer would take them no sooner than the disk.
fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let work = move || verbs::start(&words);
    let work = match std::thread::Builder::new().stack_size(STACK).spawn(work) {
        Ok(work) => work,
        Err(error) => {
            console::say(&format!("no thread can be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // A panic was told already; it ends the process as it would from here.
    work.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
