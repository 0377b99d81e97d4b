//! [`Promise::Bounded`]: what the engine holds and asks for stays within limits.

use crate::engine::{Engine, Promise, limits};
use crate::model::time::Now;

use super::Verdict;

/// Outputs of one mutation.
const OUTPUTS_MAX: u32 = 10_000;
/// Calls under way at once.
const CALLS_MAX: u64 = 200;
/// Mutations between two looks at everything.
const LOOK_EVERY: u32 = 64;

/// Looks at the engine after each mutation, now and then at everything.
#[derive(Debug, Default)]
pub struct Bounded {
    mutations: u32,
}

impl Bounded {
    pub(super) fn after_mutation(&mut self, engine: &Engine, now: Now, outputs: u32, calls_open: u64) -> Verdict {
        let broken = |detail: String| Err((Promise::Bounded, detail));
        if outputs > OUTPUTS_MAX {
            return broken(format!("{outputs} outputs of one mutation"));
        }
        if calls_open > CALLS_MAX {
            return broken(format!("{calls_open} calls under way"));
        }
        self.mutations = self.mutations.wrapping_add(1);
        if !self.mutations.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        let view = engine.snapshot(now);
        let waiting: u64 = view.exports.iter().map(|export| export.waiting).sum();
        if waiting > 2 * limits::CHANGES_WAITING_MAX as u64 {
            return broken(format!("{waiting} changes wait"));
        }
        if view.records_unsettled > 2 * limits::RECORDS_UNSETTLED_MAX {
            return broken(format!("{} records are unsettled", view.records_unsettled));
        }
        if view.buffered_bytes > 2 * limits::WAITING_BYTES_MAX as u64 {
            return broken(format!("{} bytes are buffered", view.buffered_bytes));
        }
        Ok(())
    }
}
