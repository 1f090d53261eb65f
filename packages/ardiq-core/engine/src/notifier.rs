//! Wakes an event loop through a file descriptor: once per batch, however many messages arrive.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// See the module.
#[derive(Debug)]
pub struct Notifier {
    is_set: AtomicBool,
    writer: UnixStream,
    reader: UnixStream,
}

impl Notifier {
    /// A notifier that is not set.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> Result<Self> {
        let failed = |error: std::io::Error| Error::System {
            errno: error.raw_os_error(),
            message: format!("cannot make a socket pair: {error}; raise the limit of open files"),
        };
        let (writer, reader) = UnixStream::pair().map_err(failed)?;
        writer.set_nonblocking(true).map_err(failed)?;
        reader.set_nonblocking(true).map_err(failed)?;
        Ok(Self { is_set: AtomicBool::new(false), writer, reader })
    }

    /// The descriptor to watch. It is readable while the notifier is set.
    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Make the descriptor readable. Costs nothing if it already is.
    pub fn notify(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            // One byte into an empty socket buffer. The buffer cannot be full, and this struct owns
            // the other end.
            let _ = (&self.writer).write(&[1]);
        }
    }

    /// Make the descriptor unreadable. Call this before taking what has arrived, so that later
    /// arrivals notify again.
    pub fn reset(&self) {
        let mut bytes = [0; 8];
        while let Err(error) = (&self.reader).read(&mut bytes) {
            if error.kind() != ErrorKind::Interrupted {
                break;
            }
        }
        self.is_set.store(false, Ordering::Release);
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(notifier: &Notifier) -> bool {
        let mut byte = [0];
        notifier.reader.try_clone().is_ok_and(|reader| {
            let peeked = (&reader).read(&mut byte);
            if peeked.is_ok() {
                let _ = (&notifier.writer).write(&byte);
            }
            peeked.is_ok()
        })
    }

    #[test]
    fn it_wakes_once_until_it_is_reset_and_again_afterwards() -> Result<()> {
        let notifier = Notifier::new()?;
        assert!(!is_readable(&notifier));
        notifier.notify();
        notifier.notify();
        assert!(is_readable(&notifier));
        notifier.reset();
        assert!(!is_readable(&notifier), "two notifications left one byte");
        notifier.notify();
        assert!(is_readable(&notifier));
        Ok(())
    }
}
