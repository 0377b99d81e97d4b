//! [`Promise::Private`]: no part of an address or a name turns up where operators, or the headers of letters, show it.

use crate::engine::Promise;
use crate::model::dead_letter::DeadLetter;
use crate::simulator::workload::CANARY;

use super::Verdict;

/// Looks for the canary that every address and name holds.
#[derive(Debug)]
pub struct Private;

impl Private {
    /// A text that goes to logs or metrics.
    ///
    /// # Errors
    /// It holds the canary.
    pub fn text(&self, text: &str) -> Verdict {
        let holds = text.as_bytes().windows(CANARY.len()).any(|part| part.eq_ignore_ascii_case(CANARY.as_bytes()));
        if holds { Err((Promise::Private, format!("personal data in: {text}"))) } else { Ok(()) }
    }

    pub(super) fn letters(&self, letters: &[DeadLetter]) -> Verdict {
        letters.iter().try_for_each(|letter| {
            self.text(&letter.detail)?;
            letter.refused_by.as_ref().map_or(Ok(()), |by| self.text(&by.export).and_then(|()| self.text(&by.application)))
        })
    }
}
