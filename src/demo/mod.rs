//! Kafka, vendor and stage in one process: what the stage does, at a glance. And the same events for a real topic.
//!
//! May know: the shell (time and signals come from there), the model of the vendor, librdkafka's mock cluster. Whether
//! the lists are right is decided by [`fold`], which shares no line with the engine.

mod delivery;
mod feed;
pub mod fold;
pub mod person;
pub mod produce;
mod progress;
mod render;
mod report;
mod run;
mod setup;
pub mod workload;

pub use progress::Bar;
pub use report::{Figures, Outcome};
pub use run::{DemoFault, DemoOptions, News, Progress, run};
