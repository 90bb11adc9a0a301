//! How a specimen is made: runs of other people's programs, one after the other.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Specimen;

/// Where a run's arguments name the image.
const IMAGE: &str = "{}";

/// The runs that make one image.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    name: String,
    follow: bool,
    snapshots: Vec<String>,
    runs: Vec<Run>,
}

#[derive(Clone, Debug)]
struct Run {
    words: Vec<String>,
    /// Whether it ends by a signal, as it should.
    is_killed: bool,
}

impl Recipe {
    /// Nothing yet. `{}` stands for the image in all that follows; it is called `name` with `.qcow2` behind it.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            follow: false,
            snapshots: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// `qemu-img create` with options of the format, comma-separated.
    pub(super) fn create(self, options: &str, size: u64) -> Self {
        self.run(&format!(
            "qemu-img create -q -f qcow2 -o {options} {IMAGE} {size}"
        ))
    }

    /// The image needs other files.
    pub(super) fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    /// Any program; its arguments are separated by single spaces.
    pub(super) fn run(mut self, words: &str) -> Self {
        let words = words.split(' ').map(str::to_owned).collect();
        let is_killed = false;
        self.runs.push(Run { words, is_killed });
        self
    }

    /// `qemu-img` on the image.
    pub(super) fn img(self, words: &str) -> Self {
        self.run(&format!("qemu-img {words}"))
    }

    /// `qemu-io` on the image: a command each.
    pub(super) fn io<S: AsRef<str>>(self, commands: impl IntoIterator<Item = S>) -> Self {
        self.io_on(IMAGE, "qcow2", commands)
    }

    /// `qemu-io` on another file.
    pub(super) fn io_on<S: AsRef<str>>(
        mut self,
        file: &str,
        format: &str,
        commands: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut words: Vec<String> = ["qemu-io", "-f", format].map(str::to_owned).into();
        for command in commands {
            words.extend(["-c".to_owned(), command.as_ref().to_owned()]);
        }
        words.push(file.to_owned());
        let is_killed = words.iter().any(|word| word.starts_with("sigraise"));
        self.runs.push(Run { words, is_killed });
        self
    }

    /// A snapshot without the state of a machine.
    pub(super) fn snapshot(mut self, name: &str) -> Self {
        let words = ["qemu-img", "snapshot", "-q", "-c", name, IMAGE].map(str::to_owned);
        self.snapshots.push(name.to_owned());
        self.runs.push(Run {
            words: words.into(),
            is_killed: false,
        });
        self
    }

    /// Makes it in `dir`.
    pub(super) fn make(&self, dir: &Path) -> Specimen {
        let file = format!("{}.qcow2", self.name);
        for run in &self.runs {
            run.go(dir, &file);
        }
        Specimen {
            name: self.name.clone(),
            path: dir.join(file),
            follow: self.follow,
            snapshots: self.snapshots.clone(),
        }
    }
}

impl Run {
    fn go(&self, dir: &Path, image: &str) {
        let words: Vec<String> = self.words.iter().map(|word| word.replace(IMAGE, image)).collect();
        // Programs of administrators may not be on the path of others.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let output = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(dir)
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        let is_right = if self.is_killed {
            output.status.code().is_none()
        } else {
            output.status.success()
        };
        assert!(
            is_right,
            "{words:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
