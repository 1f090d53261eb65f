//! A bell: the file descriptor that wakes an event loop, rung once per batch however much arrives.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// See the module.
#[derive(Debug)]
pub struct Bell {
    rung: AtomicBool,
    rope: UnixStream,
    ear: UnixStream,
}

impl Bell {
    /// A silent bell.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::Invalid(format!("cannot make a socket pair: {error}; raise the limit of open files"))
        };
        let (rope, ear) = UnixStream::pair().map_err(failed)?;
        rope.set_nonblocking(true).map_err(failed)?;
        ear.set_nonblocking(true).map_err(failed)?;
        Ok(Self { rung: AtomicBool::new(false), rope, ear })
    }

    /// What to watch: readable while rung.
    pub fn fd(&self) -> RawFd {
        self.ear.as_raw_fd()
    }

    /// Make the descriptor readable; free when it is already.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // One byte into an empty socket buffer: it cannot be full, and the peer lives in this very struct.
            let _ = (&self.rope).write(&[1]);
        }
    }

    /// Make it silent. Call before looking at what has arrived, so that what comes later rings again.
    pub fn hush(&self) {
        let mut bytes = [0; 8];
        while let Err(error) = (&self.ear).read(&mut bytes) {
            if error.kind() != ErrorKind::Interrupted {
                break;
            }
        }
        self.rung.store(false, Ordering::Release);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(bell: &Bell) -> bool {
        let mut byte = [0];
        bell.ear.try_clone().is_ok_and(|ear| {
            let peeked = (&ear).read(&mut byte);
            if peeked.is_ok() {
                let _ = (&bell.rope).write(&byte);
            }
            peeked.is_ok()
        })
    }

    #[test]
    fn it_rings_once_until_hushed_and_again_afterwards() -> Result<()> {
        let bell = Bell::new()?;
        assert!(!readable(&bell));
        bell.ring();
        bell.ring();
        assert!(readable(&bell));
        bell.hush();
        assert!(!readable(&bell), "two rings left one byte");
        bell.ring();
        assert!(readable(&bell));
        Ok(())
    }
}
