//! The same for the commands that users type.

use std::process::{Command, Output, Stdio};

use super::{same, without_holes};
use crate::corpus::{Corpus, Specimen, first_difference, ranges};
use crate::mount::served::unmount;
use crate::support::{Dice, MKQCOW2, root};

/// The memory that a run may take, in bytes: beyond that the system gives it none.
const MEMORY: u64 = 128 << 20;

impl Specimen {
    /// Runs a command on the image; `more` comes before its name, `behind` after it.
    fn run(&self, verb: &str, more: &[&str], behind: &[&str]) -> Output {
        let mut command = Command::new("prlimit");
        command
            .args([&format!("--data={MEMORY}"), "--core=0", MKQCOW2, verb])
            .args(more)
            .arg(self.file())
            .args(behind)
            .current_dir(self.path.parent().unwrap())
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The same, held to an exit status.
    fn runs(&self, verb: &str, more: &[&str], behind: &[&str], status: i32) -> Result<Output, String> {
        let output = self.run(verb, more, behind);
        if output.status.code() == Some(status) {
            return Ok(output);
        }
        Err(format!(
            "{verb}: {}, expected {status}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// What `restore` makes of it.
    fn restored(&self, more: &[&str]) -> Result<Vec<u8>, String> {
        let target = format!("{}.restored", self.name);
        let words: Vec<_> = ["-q", "--no-sync"]
            .iter()
            .chain(self.arguments())
            .chain(more)
            .copied()
            .collect();
        self.runs("restore", &words, &[&target], 0)?;
        let target = self.path.with_file_name(target);
        let bytes = std::fs::read(&target).unwrap();
        std::fs::remove_file(&target).unwrap();
        Ok(bytes)
    }
}

#[test]
fn every_specimen_is_restored_as_qemu_converts_it() {
    Corpus::shared().each(|specimen| {
        let difference = first_difference(&specimen.restored(&[])?, &specimen.raw());
        difference.map_or(Ok(()), Err)
    });
}

#[test]
fn every_snapshot_is_restored_as_qemu_applies_it() {
    Corpus::shared().each(|specimen| {
        for name in &specimen.snapshots {
            let ours = specimen.restored(&["--snapshot", name])?;
            if let Some(difference) = first_difference(&ours, &specimen.raw_snapshot(name)) {
                return Err(format!("{name}: {difference}"));
            }
        }
        Ok(())
    });
}

#[test]
fn every_specimen_is_shown_as_qemu_converts_it_as_root() {
    root::needed();
    Corpus::shared().each(|specimen| {
        let point = specimen.path.with_file_name(format!("{}.mounted", specimen.name));
        std::fs::create_dir(&point).unwrap();
        specimen.runs("mount", specimen.arguments(), &[point.to_str().unwrap()], 0)?;
        let shown = std::fs::read(point.join("disk.raw"));
        unmount(&point);
        std::fs::remove_dir(&point).unwrap();
        let difference = first_difference(&shown.unwrap(), &specimen.raw());
        difference.map_or(Ok(()), Err)
    });
}

#[test]
fn every_specimen_is_mapped_in_the_words_of_qemu() {
    Corpus::shared().each(|specimen| {
        let words: Vec<_> = ["--json"].iter().chain(specimen.arguments()).copied().collect();
        let ours = ranges(&specimen.runs("map", &words, &[], 0)?.stdout);
        let (ours, theirs) = (ours.into_iter(), specimen.qemu_map().into_iter());
        same(ours.map(without_holes), theirs.map(without_holes))
    });
}

#[test]
fn every_specimen_is_checked_as_qemu_checks_it() {
    Corpus::shared().each(|specimen| {
        let status = specimen.qemu_check_status();
        specimen.runs("check", &["--data"], &[], status).map(|_| ())
    });
}

#[test]
fn every_specimen_equals_what_qemu_takes_for_its_equal() {
    Corpus::shared().each(|specimen| {
        let other = specimen
            .path
            .with_file_name(format!("{}.compared", specimen.name));
        // Zeros behind the end are no difference, anything else in any place is.
        let mut raw = specimen.raw();
        raw.extend([0; 1024]);
        std::fs::write(&other, &raw).unwrap();
        let behind = [other.to_str().unwrap()];
        assert!(specimen.qemu_equals(&other, "raw"));
        specimen.runs("compare", specimen.arguments(), &behind, 0)?;
        let at = Dice::new(raw.len() as u64).below(raw.len() as u64) as usize;
        raw[at] ^= 1;
        std::fs::write(&other, &raw).unwrap();
        assert!(!specimen.qemu_equals(&other, "raw"));
        specimen.runs("compare", specimen.arguments(), &behind, 1)?;
        std::fs::remove_file(&other).unwrap();
        Ok(())
    });
}

#[test]
fn every_specimen_is_verified() {
    Corpus::shared().each(|specimen| specimen.runs("verify", &[], &[], 0).map(|_| ()));
}

#[test]
fn every_snapshot_is_shown() {
    Corpus::shared().each(|specimen| {
        let shown = specimen.runs("info", &[], &[], 0)?;
        let shown = String::from_utf8(shown.stdout).map_err(|error| error.to_string())?;
        let missing = specimen
            .snapshots
            .iter()
            .find(|name| !shown.contains(name.as_str()));
        missing.map_or(Ok(()), |name| {
            Err(format!("snapshot {name} is not told of:\n{shown}"))
        })
    });
}
