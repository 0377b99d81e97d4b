//! The progress bar, on a terminal alone: `indicatif` hides it where stderr is none.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::run::Progress;

/// A bar over the records of a run.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar for so many records.
    #[must_use]
    pub fn new(records: u64) -> Self {
        let bar = ProgressBar::new(records);
        let style = ProgressStyle::with_template("{elapsed:>4} {wide_bar} {human_pos} of {human_len} committed · {msg}");
        match style {
            Ok(style) => bar.set_style(style),
            Err(error) => unreachable!("a template of ours: {error}"),
        }
        bar.set_message("the stage joins its group");
        // Time is seen to pass also while nothing else moves.
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        Self(bar)
    }

    /// Shows how far it is.
    pub fn show(&self, progress: &Progress) {
        self.0.set_position(progress.committed);
        self.0.set_message(format!("{} contacts applied, {} open", HumanCount(progress.applied), HumanCount(progress.open)));
    }

    /// Writes a line above it; nothing where there is no terminal.
    pub fn line(&self, text: &str) {
        self.0.println(text);
    }

    /// True where there is no terminal.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// Takes it away.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}
