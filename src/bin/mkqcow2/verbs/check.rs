//! `mkqcow2 check`.

use std::path::Path;
use std::process::ExitCode;

use crate::args::check::Check;
use crate::bar::Bar;
use crate::report;
use crate::report::check::Checked;
use crate::verb::Verb;
use mkqcow2::check::{Finding, Report, check_legacy};
use mkqcow2::error::Side;
use mkqcow2::formats::{Bases, Single};
use mkqcow2::{Error, Image};

impl Verb for Check {
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
        let bar = Bar::new(self.shown.bar());
        let image = match Single::open(&self.image, self.format.given())? {
            Single::Qcow2(image) => Single::Qcow2(Box::new(image.with_data_file(&self.access())?)),
            Single::Legacy(image) => {
                self.access().refuse_of_legacy()?;
                Single::Legacy(image)
            }
        };
        let checked = self.checked(&image, &bar);
        bar.end();
        let (all, fault) = checked?;
        Ok(report::check::done(self, &all, fault.as_ref()))
    }
}

impl Check {
    /// What came of the image, and of all that it stands on; and why there are no more, although there should be.
    fn checked(&self, image: &Single, bar: &Bar) -> mkqcow2::Result<(Vec<Checked>, Option<Error>)> {
        let image = match image {
            Single::Qcow2(image) => image,
            Single::Legacy(image) => {
                let own = one(&self.image, |tell| {
                    check_legacy(image, &self.options(), bar, tell)
                })?;
                return Ok((vec![own], None));
            }
        };
        let of = |path: &Path, image: &Image| {
            one(path, |tell| mkqcow2::check(image, &self.options(), bar, tell))
                .map_err(|error| error.elsewhere(path))
        };
        let mut all = vec![of(&self.image, image)?];
        if self.only {
            return Ok((all, None));
        }
        let bases = Bases::of(image, self.follow)?;
        for (path, image) in &bases.images {
            all.push(of(path, image)?);
        }
        Ok((all, bases.fault))
    }
}

/// What a check of one image tells.
fn one(
    path: &Path,
    check: impl FnOnce(&mut dyn FnMut(&Finding)) -> mkqcow2::Result<Report>,
) -> mkqcow2::Result<Checked> {
    let mut findings = Vec::new();
    let report = check(&mut |finding| findings.push(finding.clone()))?;
    let path = path.to_owned();
    Ok(Checked {
        path,
        report,
        findings,
    })
}
