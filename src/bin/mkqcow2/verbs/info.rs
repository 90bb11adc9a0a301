//! `mkqcow2 info`.

use std::path::Path;
use std::process::ExitCode;

use crate::args::info::Info as Args;
use crate::report;
use crate::verb::Verb;
use mkqcow2::error::Side;
use mkqcow2::formats::{Bases, Single};
use mkqcow2::info::{Info, LegacyInfo};

impl Verb for Args {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("filename", &self.image)]
    }

    fn path(&self, _: Side) -> &Path {
        &self.image
    }

    fn is_json(&self) -> bool {
        self.json.json
    }

    fn run(&self) -> mkqcow2::Result<ExitCode> {
        match Single::open(&self.image, self.format.given())? {
            Single::Qcow2(image) => {
                let bases = Bases::of(&image, self.follow)?;
                Ok(report::info::info(self, &Info::of(*image)?, &bases))
            }
            Single::Legacy(image) => Ok(report::info::plain(self, &LegacyInfo::of(*image)?)),
        }
    }
}
