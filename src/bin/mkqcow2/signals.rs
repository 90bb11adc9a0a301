//! Signals that end the program: nothing is left behind, and it dies of the signal it was sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use crate::bar::Eraser;
use crate::console;
use mkqcow2::output::{Cleanup, Left};

/// The signals that kill a program which does nothing about them, but for those that the kernel sends because of a fault
/// in it. A shell sends SIGQUIT for Ctrl-\, limits and batch systems the others. Source: signal(7).
const DEADLY: [i32; 10] = [
    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGXCPU,
];

/// For commands that write `target`: from now on a thread waits for signals that would kill, whatever the
/// others are busy with.
pub(crate) fn watch(cleanup: Cleanup, bar: Eraser, target: PathBuf) {
    // A file that grows past the limit is then an error of write(2), which knows where.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let wanted = wanted_signals();
    // After the cleanup nothing is left to do but to say so, and if nobody reads that it takes forever: from then
    // on a signal kills.
    let is_clean = Arc::new(AtomicBool::new(false));
    for number in &wanted {
        // Where this cannot be had, the thread is the only one to end the program.
        let _ = signal_hook::flag::register_conditional_default(*number, Arc::clone(&is_clean));
    }
    let Ok(mut signals) = Signals::new(&wanted) else {
        // Then they kill without a word. An unnamed image goes away all the same.
        return;
    };
    let wait = move || {
        let Some(signal) = signals.forever().next() else {
            return;
        };
        let (left, remains) = cleanup.abandon();
        is_clean.store(true, Ordering::SeqCst);
        bar.end();
        let name = signal_name(signal).unwrap_or("a signal");
        let outcome = match left {
            Left::Old => "not written",
            Left::Part => "incomplete",
            Left::New => "but complete already",
        };
        console::say_of(&target, &format!("stopped by {name}, {outcome}"));
        if let Some(remains) = remains {
            console::say_of(remains.path(), &remains.to_string());
        }
        if std::process::id() == 1 {
            // The first process of a container does not die of signals: what a shell would show. Signals have numbers up
            // to 64: this adds 128.
            std::process::exit(signal | 128);
        }
        // Does not return: the default is to die.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    };
    // Without a thread to spare, signals kill without a word as well.
    let _ = std::thread::Builder::new().spawn(wait);
}

/// For a command that goes on until it is told to end: the first signal that would kill calls `end` with its name, and
/// kills only if that returns false. A second one kills in any case.
pub(crate) fn end_by(end: impl FnOnce(&str) -> bool + Send + 'static) {
    let wanted = wanted_signals();
    let is_told = Arc::new(AtomicBool::new(false));
    for number in &wanted {
        // Where this cannot be had, only SIGKILL is left as a second one.
        let _ = signal_hook::flag::register_conditional_default(*number, Arc::clone(&is_told));
    }
    let Ok(mut signals) = Signals::new(&wanted) else {
        // Then they kill, and leave a dead mount.
        return;
    };
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            is_told.store(true, Ordering::SeqCst);
            if !end(signal_name(signal).unwrap_or("a signal")) {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    };
    // Without a thread to spare, signals are not heeded.
    let _ = std::thread::Builder::new().spawn(wait);
}

/// The deadly signals but for those that nohup(1) or the shell told us to ignore: they stay ignored.
fn wanted_signals() -> Vec<i32> {
    let ignored = ignored_signals();
    let wanted = DEADLY.into_iter().filter(|number| !is_in(ignored, *number));
    wanted.collect()
}

/// The mask of ignored signals, bit 0 for signal 1; none if the system does not tell. Source: proc(5).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn is_in(mask: u64, signal: i32) -> bool {
    let bit = u32::try_from(signal)
        .ok()
        .and_then(|signal| signal.checked_sub(1));
    let rest = bit.and_then(|bit| mask.checked_shr(bit));
    rest.is_some_and(|rest| rest & 1 == 1)
}
