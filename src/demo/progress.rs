//! The progress bar, on a terminal alone: `indicatif` hides it where stderr is none.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::run::Progress;

/// A bar over the records of a run.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    /// Characters of the greatest count, so that the bar keeps its width while the counts grow.
    width: usize,
}

impl Bar {
    /// A bar for so many records.
    #[must_use]
    pub fn new(records: u64) -> Self {
        let bar = ProgressBar::new(records);
        let width = HumanCount(records).to_string().len();
        let template = format!("{{elapsed:>4}} {{wide_bar}} {{human_pos:>{width}}} of {{human_len}} committed · {{msg}}");
        let style = ProgressStyle::with_template(&template);
        match style {
            Ok(style) => bar.set_style(style),
            Err(error) => unreachable!("a template of ours: {error}"),
        }
        let bar = Self { bar, width };
        // As long as the texts that follow.
        bar.bar.set_message(format!("{:<room$}", "the stage joins its group", room = bar.counts(0, 0).len()));
        // Time is seen to pass also while nothing else moves.
        bar.bar.enable_steady_tick(std::time::Duration::from_millis(200));
        bar
    }

    fn counts(&self, applied: u64, open: u64) -> String {
        let (applied, open) = (HumanCount(applied).to_string(), HumanCount(open).to_string());
        format!("{applied:>width$} applied, {open:>width$} open", width = self.width)
    }

    /// Shows how far it is.
    pub fn show(&self, progress: &Progress) {
        self.bar.set_position(progress.committed);
        self.bar.set_message(self.counts(progress.applied, progress.open));
    }

    /// Writes a line above it; nothing where there is no terminal.
    pub fn line(&self, text: &str) {
        self.bar.println(text);
    }

    /// True where there is no terminal.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Takes it away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}
