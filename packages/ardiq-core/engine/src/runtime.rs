//! The I/O thread: one tokio runtime per process, which all cores share. It ends with the last
//! core.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::lock::lock;

/// How long the end of the process may wait for the thread.
const JOIN_LIMIT: Duration = Duration::from_secs(2);

/// The process, and the runtime that it started. Callers hold the interpreter's lock while they
/// lock this, so a fork never copies it locked.
static SHARED: Mutex<Option<(u32, Weak<Runtime>)>> = Mutex::new(None);

/// A tokio runtime with its own thread.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    stop: Arc<Notify>,
    ended: Mutex<Option<Receiver<()>>>,
    process: u32,
}

impl Runtime {
    /// The runtime of this process, which is started if necessary. A forked child starts its own,
    /// because threads do not survive a fork.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a file descriptor.
    pub fn shared() -> Result<Arc<Self>> {
        let mut shared = lock(&SHARED);
        let process = std::process::id();
        if let Some((owner, runtime)) = shared.as_ref()
            && *owner == process
            && let Some(runtime) = runtime.upgrade()
        {
            return Ok(runtime);
        }
        let runtime = Arc::new(Self::start(process)?);
        *shared = Some((process, Arc::downgrade(&runtime)));
        Ok(runtime)
    }

    fn start(process: u32) -> Result<Self> {
        let failed = |error: std::io::Error| Error::System {
            errno: error.raw_os_error(),
            message: format!(
                "cannot start the I/O thread: {error}; raise the limit of open files or threads (ulimit -n, ulimit -u)"
            ),
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let (ending, ended) = channel();
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("ardiq-io".into())
            .spawn(move || {
                runtime.block_on(stopped.notified());
                drop(runtime);
                drop(ending);
            })
            .map_err(failed)?;
        Ok(Self { handle, stop, ended: Mutex::new(Some(ended)), process })
    }

    /// The handle for spawning tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether this process, and not its parent, started the runtime.
    pub fn is_here(&self) -> bool {
        self.process == std::process::id()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // In a forked child there is no thread to wait for.
        if !self.is_here() {
            return;
        }
        self.stop.notify_one();
        let ended = lock(&self.ended).take();
        if let Some(ended) = ended {
            // The thread drops the sender when it ends. This is a join with a time limit.
            let _ = ended.recv_timeout(JOIN_LIMIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_users_share_one_runtime_and_it_ends_with_the_last() {
        let first = Runtime::shared();
        let second = Runtime::shared();
        let (Ok(first), Ok(second)) = (first, second) else { unreachable!("threads are available in tests") };
        assert!(Arc::ptr_eq(&first, &second));
        let weak = Arc::downgrade(&first);
        drop((first, second));
        assert!(weak.upgrade().is_none());
        assert!(Runtime::shared().is_ok());
    }
}
