//! Closing as the moment at which some filesystems tell what they could not write.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;

/// Closes another handle of a file, which itself stays open. Network and FUSE filesystems send what is left of the
/// data whenever a handle is closed, and only then tell of a disk that is full. Nothing is synced by it.
///
/// # Errors
///
/// Those of close(2).
pub fn close_once(file: &impl AsFd) -> io::Result<()> {
    loop {
        match nix::unistd::close(file.as_fd().try_clone_to_owned()?) {
            // That handle is gone all the same, but not everything may have been sent.
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn the_file_stays_open() {
        let mut file = File::options().write(true).open("/dev/null").unwrap();
        close_once(&file).unwrap();
        file.write_all(b"more").unwrap();
        close_once(&file).unwrap();
    }
}
