//! The one way to take a lock: a thread that panicked while it held one must not take the others
//! down.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lock `mutex`, even if another thread panicked while it held the lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_under_the_lock_does_not_lock_others_out() {
        let shared = Arc::new(Mutex::new(1));
        let held = Arc::clone(&shared);
        let panicked = std::thread::spawn(move || {
            let mut value = lock(&held);
            *value = 2;
            panic!("the test panics on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*lock(&shared), 2);
    }
}
