//! The command line of mkqcow2: what was typed becomes options, what comes back becomes text or JSON.
//!
//! A command is three files of the same name: in `args/` what can be typed behind its word, in `report/` what
//! is told of it, and in `verbs/` the run between the two. Its line in [`verbs::ALL`] makes it known.

mod args;
mod bar;
mod console;
mod report;
mod signals;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    verbs::start(&words)
}
