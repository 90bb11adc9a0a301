//! `mkqcow2 compare`.

use std::io::{self, IsTerminal, Write};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::ExitCode;

use indicatif::BinaryBytes;
use serde_json::{Map, Value, json};

use super::{told, verdict};
use crate::advice::general;
use crate::args::compare::Compare;
use crate::bar::Bar;
use crate::console::{self, escaped, per_second, print, say_of, shown};
use mkqcow2::Error;
use mkqcow2::compare::{Comparison, Report};
use mkqcow2::disk::Section;
use mkqcow2::error::{InUse, Invalid};
use mkqcow2::units::{Exact, length};
use mkqcow2::volumes::{Volume, Wanted};

/// They differ.
const DIFFERENT: u8 = 1;

/// Nobody can tell whether they differ.
pub(crate) const TROUBLE: u8 = 2;

/// Of a comparison up to the first difference.
pub(crate) fn first(args: &Compare, report: &Report) -> ExitCode {
    warn(report);
    verdict(args, status(report), |out| {
        if args.json.json {
            writeln!(out, "{}", console::json(&fields(args, report).into()))
        } else {
            closing_line(out, args, report)
        }
    })
}

/// Compares all of the two, and lists the ranges in which they differ as they are found.
pub(crate) fn all(args: &Compare, comparison: &Comparison, bar: &Bar) -> ExitCode {
    let mut status = TROUBLE;
    let is_told = print(|out| {
        let mut list = List::begin(args, bar, out)?;
        let report = comparison.all(bar, |range| list.add(&range));
        bar.end();
        if list.count > 0 {
            status = DIFFERENT;
        }
        let out = list.end()?;
        match report {
            Ok(report) => {
                warn(&report);
                status = self::status(&report);
                if args.json.json {
                    rest_of_object(out, fields(args, &report))
                } else {
                    closing_line(out, args, &report)
                }
            }
            Err(error) => {
                let (failure, fields) = told(args, &error);
                status = failure;
                if args.json.json {
                    rest_of_object(out, fields)
                } else {
                    Ok(())
                }
            }
        }
    });
    ExitCode::from(if is_told { status } else { TROUBLE })
}

/// The ranges in which two disks differ: there may be millions, and each is told when it is found.
struct List<'a> {
    out: &'a mut dyn Write,
    is_json: bool,
    /// The bar is drawn where the list is written.
    shared: Option<&'a Bar>,
    count: u64,
    failed: Option<io::Error>,
}

impl<'a> List<'a> {
    fn begin(args: &Compare, bar: &'a Bar, out: &'a mut dyn Write) -> io::Result<Self> {
        let is_json = args.json.json;
        if is_json {
            write!(out, "{{\"ranges\":[")?;
        }
        Ok(Self {
            out,
            is_json,
            shared: io::stdout().is_terminal().then_some(bar),
            count: 0,
            failed: None,
        })
    }

    /// Breaks off the comparison if nobody can read the list any more.
    fn add(&mut self, range: &Range<u64>) -> ControlFlow<()> {
        let written = match self.shared {
            Some(bar) => bar.aside(|| self.write(range).and_then(|()| self.out.flush())),
            None => self.write(range),
        };
        self.count.increase(1);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn write(&mut self, range: &Range<u64>) -> io::Result<()> {
        let (start, length) = (range.start, length(range));
        if self.is_json {
            let comma = if self.count == 0 { "" } else { "," };
            write!(self.out, "{comma}{}", json!({"start": start, "length": length}))
        } else {
            writeln!(self.out, "{start:#014x} {length:>16}")
        }
    }

    fn end(self) -> io::Result<&'a mut dyn Write> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.out),
        }
    }
}

/// Closes the list, and the object it stands in, with the other fields.
fn rest_of_object(out: &mut dyn Write, fields: Map<String, Value>) -> io::Result<()> {
    let object = console::json(&fields.into());
    writeln!(out, "],{}", object.strip_prefix('{').unwrap_or(&object))
}

fn warn(report: &Report) {
    for warning in &report.warnings {
        say_of(warning.path(), &format!("warning: {warning}"));
    }
}

fn status(report: &Report) -> u8 {
    match report.is_equal() {
        Some(true) => 0,
        Some(false) => DIFFERENT,
        None => TROUBLE,
    }
}

fn fields(args: &Compare, report: &Report) -> Map<String, Value> {
    let warnings = report
        .warnings
        .iter()
        .map(|warning| format!("{}: {warning}", warning.path().display()));
    let [size_a, size_b] = report.sizes;
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    add("status", status(report).into());
    add("a", args.a.to_string_lossy().into());
    add("b", args.b.to_string_lossy().into());
    let [part_a, part_b] = report.volumes.each_ref().map(|volume| {
        let name = volume.as_ref().map(|volume| &*volume.name);
        Value::from(name)
    });
    add("part-a", part_a);
    add("part-b", part_b);
    add("equal", report.is_equal().into());
    add("size-a", size_a.into());
    add("size-b", size_b.into());
    add("first-difference", report.first_difference.into());
    if args.all {
        add("differing", report.differing.into());
    }
    add("compared", report.compared.into());
    add("seconds", report.duration.as_secs_f64().into());
    add("warnings", warnings.collect());
    fields
}

/// What is compared of a disk: `partition 2 (ext4) of disk.qcow2`.
fn compared(path: &Path, wanted: &Wanted, volume: Option<&Volume>) -> String {
    let path = shown(path);
    match (volume, wanted) {
        (Some(volume), _) => format!("{} of {path}", escaped(&volume.to_string())),
        (None, Wanted::Section(Section { offset, .. })) => format!("the section at {offset:#x} of {path}"),
        (None, Wanted::Whole | Wanted::Volume(_)) => path,
    }
}

/// What came of it. Nothing if nobody can tell: a warning says why.
fn closing_line(out: &mut dyn Write, args: &Compare, report: &Report) -> io::Result<()> {
    let [wanted_a, wanted_b] = args.wanted();
    let is_whole = [&wanted_a, &wanted_b]
        .into_iter()
        .all(|wanted| *wanted == Wanted::Whole);
    let [volume_a, volume_b] = report.volumes.each_ref().map(Option::as_ref);
    let a = compared(&args.a, &wanted_a, volume_a);
    let b = compared(&args.b, &wanted_b, volume_b);
    let [size_a, size_b] = report.sizes;
    let Some(is_equal) = report.is_equal().filter(|_| !args.shown.quiet) else {
        return Ok(());
    };
    if is_equal {
        write!(out, "{a} and {b} are equal: {}", BinaryBytes(size_a.max(size_b)))?;
        if size_a != size_b {
            let longer = if size_a > size_b { a } else { b };
            let more = size_a.abs_diff(size_b);
            write!(out, ", the last {more} bytes are only in {longer}, and zeros")?;
        }
    } else {
        write!(out, "{a} and {b} differ")?;
        if let Some(first) = report.first_difference {
            let of_these = if is_whole { "" } else { " of the selected bytes" };
            write!(out, ", first at {first:#x}{of_these}")?;
        }
        if report.sizes_differ {
            write!(out, ", in size: {size_a} and {size_b} bytes")?;
        }
        if report.ranges > 0 {
            let (differing, ranges) = (report.differing, report.ranges);
            let noun = if ranges == 1 { "range" } else { "ranges" };
            write!(out, ": {differing} bytes in {ranges} {noun} of sectors")?;
        }
    }
    writeln!(
        out,
        "; {} compared, {:.2} s, {}/s",
        BinaryBytes(report.compared),
        report.duration.as_secs_f64(),
        per_second(report.compared, report.duration)
    )
}

/// What can be done about an error.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    let Error::Invalid(Invalid::SourceInUse(in_use)) = error else {
        return general(error);
    };
    Some(match in_use {
        InUse::Mounted { .. } => "unmount it, compare a snapshot, or pass --force",
        InUse::Swap { .. } => "swapoff it, or pass --force",
        InUse::Held { .. } => "deactivate that device, compare a snapshot, or pass --force",
        InUse::Guest { .. } => "shut the virtual machine down, or pass --force",
        InUse::OtherRun { .. } => "wait until it is done",
        InUse::Busy { .. } => "lsblk may tell by whom; or pass --force",
        InUse::Unknown { .. } => "/proc and /sys must be mounted and readable; or pass --force",
    })
}
