//! A terminal as a user has it: a pseudo-terminal for the program, and the screen that a user looks at.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::screen::{Drawn, Screen};

/// How long something may take that takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run with a terminal, at the end of which a user sits.
#[derive(Debug)]
pub struct Terminal {
    /// The user's end of it.
    pty: File,
    screen: Screen,
    child: Child,
}

impl Terminal {
    /// Starts a program with a terminal of so many columns for standard error, and for standard output too unless that
    /// is said to be something else.
    pub fn start(columns: u16, mut command: Command, is_for_both: bool) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let pty = openpt(flags).unwrap();
        grantpt(&pty).unwrap();
        unlockpt(&pty).unwrap();
        tcsetwinsize(&pty, size(columns)).unwrap();
        let name = ptsname(&pty, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        if is_for_both {
            command.stdout(terminal.try_clone().unwrap());
        }
        command.stderr(terminal).stdin(Stdio::null());
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            pty: pty.into(),
            screen: Screen::new(columns.into()),
            child,
        }
    }

    /// The program.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Looks at the screen until it is so.
    #[track_caller]
    pub fn until(mut self, what: &str, is_so: impl Fn(&Screen) -> bool) -> Self {
        let begun = Instant::now();
        while !is_so(&self.screen) {
            let is_open = self.look(PATIENCE);
            let lines = self.screen.lines();
            let waited = begun.elapsed() < PATIENCE;
            assert!(is_open && waited, "waited in vain: {what}: {lines:#?}");
        }
        self
    }

    /// Looks at it for so long.
    pub fn look_for(mut self, time: Duration) -> Self {
        let begun = Instant::now();
        while let Some(rest) = time.checked_sub(begun.elapsed()) {
            self.look(rest);
        }
        self
    }

    /// Waits for the next bytes, and reads them. False at the end.
    fn look(&mut self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).unwrap();
        let mut ready = [PollFd::new(&self.pty, PollFlags::IN)];
        if poll(&mut ready, Some(&timeout)).unwrap() == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        // EIO once no program has it open.
        match self.pty.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.screen.take(&bytes[..length]);
                true
            }
        }
    }

    /// Makes it wider or narrower, as a user does with a window.
    pub fn resize(mut self, columns: u16) -> Self {
        self.screen.resize(columns.into());
        tcsetwinsize(&self.pty, size(columns)).unwrap();
        self
    }

    pub fn send(self, signal: Signal) -> Self {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        self
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub fn ends(mut self) -> Shown {
        let begun = Instant::now();
        while self.look(PATIENCE) {
            assert!(begun.elapsed() < PATIENCE, "{:#?}", self.screen.lines());
        }
        Shown {
            status: self.child.wait().unwrap(),
            lines: self.screen.lines(),
            drawn: self.screen.drawn().to_vec(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16) -> Winsize {
    Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// What a user saw of a run.
#[derive(Debug)]
pub struct Shown {
    pub status: ExitStatus,
    /// What stands on the screen at the end.
    pub lines: Vec<String>,
    /// What stood there meanwhile.
    pub drawn: Vec<Drawn>,
}

impl Shown {
    /// Holds it to an exit status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status.code(), Some(status), "{self:#?}");
        self
    }

    /// Holds it to death by a signal.
    #[track_caller]
    pub fn dies_of(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{self:#?}");
        self
    }

    /// Holds it to lines at the end that begin like these, and no others.
    #[track_caller]
    pub fn leaves(self, beginnings: &[&str]) -> Self {
        let is_so = self.lines.len() == beginnings.len()
            && self
                .lines
                .iter()
                .zip(beginnings)
                .all(|(line, begins)| line.starts_with(begins));
        assert!(is_so, "expected {beginnings:#?}\n{self:#?}");
        self
    }

    /// The lines that were drawn for a while.
    pub fn drawn(&self) -> impl Iterator<Item = &str> {
        self.drawn.iter().map(|drawn| drawn.text.as_str())
    }
}
