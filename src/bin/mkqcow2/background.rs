//! Goes on in the background: the program starts itself again, and ends when that run tells that it is ready.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Stdio};

use crate::console::{print, say};
use crate::status::WARNING;

/// This program, whatever has its name by now.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What a run in the background says on standard output when it is ready, behind its answer.
const READY: u8 = 0;

/// Starts the command again, with these options behind its word, and waits until that run is ready or has failed. What
/// it has to say until then goes to standard error, which it inherits, and its answer to standard output.
pub(crate) fn start(options: &[&str]) -> ExitCode {
    match try_start(options) {
        Ok(status) => status,
        Err(error) => {
            say(&format!(
                "cannot start in the background: {error} (pass --foreground)"
            ));
            ExitCode::FAILURE
        }
    }
}

fn try_start(options: &[&str]) -> io::Result<ExitCode> {
    let mut words = env::args_os();
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0(words.next().unwrap_or_default());
    command.args(words.next()).args(options).args(words);
    let (said, ready) = io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(ready).spawn()?;
    // The other handle of the pipe.
    drop(command);
    let mut answer = Vec::new();
    BufReader::new(said).read_until(READY, &mut answer)?;
    let is_ready = answer.pop_if(|last| *last == READY).is_some();
    let is_told = answer.is_empty() || print(|out| out.write_all(&answer));
    if is_ready {
        let status = if is_told {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(WARNING)
        };
        return Ok(status);
    }
    let status = child.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(match (code, status.signal()) {
        (Some(code), _) => ExitCode::from(code),
        (None, signal) => {
            let signal = signal.map_or_else(String::new, |signal| format!(" by signal {signal}"));
            say(&format!("the run in the background was stopped{signal}"));
            ExitCode::FAILURE
        }
    })
}

/// Of the run in the background: it is ready, and from now on has nothing to do with the terminal, nor with the
/// directory it was started in. Whether the run that started it is still there.
pub(crate) fn enter() -> bool {
    try_enter().is_ok()
}

fn try_enter() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // It may lead a session already.
    let _ = rustix::process::setsid();
    env::set_current_dir("/")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&[READY])?;
    stdout.flush()?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
