//! What an operator may order of an export while the stage runs.

use super::named;

named! {
    /// An order. It is written to the state, and survives every restart.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ControlAction {
        /// Start an export that waits for its first run.
        Run = "run",
        /// Send nothing of it until it is resumed, but for the removal of who was erased.
        Pause = "pause",
        /// End a pause.
        Resume = "resume",
        /// Let the removals go that wait for it.
        Approve = "approve",
    }
}

named! {
    /// What became of an order.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ControlOutcome {
        /// It is in the state, and in effect.
        Done = "done",
        /// It is in the state; the term ends in order, and the next one begins with it.
        BeginsAnew = "begins_anew",
        /// It was so already: nothing changed.
        Unchanged = "unchanged",
        /// The term is ending and takes no orders: ask the next one.
        Stopping = "stopping",
    }
}
