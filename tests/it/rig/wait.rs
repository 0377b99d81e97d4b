//! The one place that waits: bounded, and for something observable.

use std::time::{Duration, Instant};

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within `limit`.
pub fn until<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    until_or(what, limit, String::new, ask)
}

/// [`until`], with what to show when it was in vain.
///
/// # Panics
/// When there is none within `limit`.
pub fn until_or<T>(what: &str, limit: Duration, show: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain until {what}\n{}", show());
        std::thread::sleep(Duration::from_millis(20));
    }
}
