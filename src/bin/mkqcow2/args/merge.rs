//! `mkqcow2 merge`.

use std::path::PathBuf;

use super::shared::{Json, Shown, Workers, is_dash};
use mkqcow2::merge::Options;
use mkqcow2::output::Cleanup;

/// The end of the help.
pub(crate) const AFTER_HELP: &str = "\
The images that IMAGE stands on are not changed. IMAGE keeps its UUID, so that what stands on it stays valid.
Exit status: 0 done; 1 failed, IMAGE unchanged; 3 done, with a warning that matters; 64 usage.
Manual: man 8 mkqcow2-merge";

/// Make an incremental image and those that it stands on one full image, in its place
#[derive(Debug, clap::Parser)]
#[command(name = "merge", override_usage = "mkqcow2 merge [OPTIONS] IMAGE")]
pub(crate) struct Merge {
    /// Image to merge, which is replaced once the new one is complete
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    /// Merge down to BASE only, which IMAGE then stands on
    #[arg(long, value_name = "BASE")]
    pub(crate) onto: Option<PathBuf>,

    /// Do not wait until IMAGE is on stable storage
    #[arg(long)]
    no_sync: bool,

    /// Show what would be merged and the size of the new IMAGE at most; change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    workers: Workers,

    #[command(flatten)]
    pub(crate) shown: Shown,

    #[command(flatten)]
    pub(crate) json: Json,

    /// What a signal, or a failure, has left.
    #[arg(skip)]
    pub(crate) cleanup: Cleanup,
}

impl Merge {
    /// Refuses what is well-formed but cannot be meant.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let is_stream = |path: &PathBuf| is_dash(path);
        if is_stream(&self.image) {
            return Err(
                "IMAGE cannot be standard input or output; write ./- for a file of that name".to_owned(),
            );
        }
        if self.onto.as_ref().is_some_and(is_stream) {
            return Err("BASE cannot be standard input; write ./- for a file of that name".to_owned());
        }
        Ok(())
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self) -> Options {
        Options {
            onto: self.onto.clone(),
            sync: !self.no_sync,
            threads: self.workers.threads,
            cleanup: self.cleanup.clone(),
        }
    }
}
