//! The command line of mkqcow2: what was typed becomes options, what comes back becomes text or JSON.

mod args;
mod bar;
mod console;
mod report;
mod signals;

use std::process::ExitCode;

use clap::error::ErrorKind;

use args::Args;
use bar::Bar;
use mkqcow2::Imaging;
use mkqcow2::sink::Cleanup;
use report::{Reporter, USAGE};

fn main() -> ExitCode {
    let args = match Args::from_command_line() {
        Ok(args) => args,
        Err(error) => {
            let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nobody is left to tell if even that cannot be written.
            let _ = error.print();
            return if is_asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(USAGE)
            };
        }
    };
    let reporter = Reporter::new(&args);
    match run(&args, &reporter) {
        Ok(status) => status,
        Err(error) => reporter.failure(&error),
    }
}

fn run(args: &Args, reporter: &Reporter<'_>) -> mkqcow2::Result<ExitCode> {
    let cleanup = Cleanup::default();
    let bar = Bar::new(args.bar());
    signals::watch(cleanup.clone(), bar.clone(), args.image.clone());
    let imaging = Imaging::prepare(&args.source, &args.image, args.options(cleanup))?;
    if args.dry_run {
        return Ok(reporter.plan(&imaging.plan()));
    }
    reporter.before(&imaging.plan());
    let report = imaging.run(&bar);
    bar.end();
    Ok(reporter.done(&report?))
}
