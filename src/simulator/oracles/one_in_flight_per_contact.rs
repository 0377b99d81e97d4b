//! [`Promise::OneInFlightPerContact`]: no activity is started that touches a contact of one that may still run.

use crate::engine::Promise;
use crate::model::{ActivityId, batch::Operation};
use crate::simulator::constant_contact::OpenActivity;

use super::Verdict;

/// Looks at each activity that is started.
#[derive(Debug)]
pub struct OneInFlightPerContact;

impl OneInFlightPerContact {
    /// An activity was started; `open` are all that have not ended.
    ///
    /// # Errors
    /// Another one touches one of its contacts.
    pub fn started(&self, open: &[OpenActivity], id: ActivityId) -> Verdict {
        let Some(fresh) = open.iter().find(|activity| activity.activity_id == id) else { return Ok(()) };
        for other in open.iter().filter(|activity| activity.activity_id != id) {
            // A removal whose answer was lost has no name to be found by, nor has an import where names do not come back:
            // it is sent once more as it was, and what it does twice is the same.
            let nameless = other.source_file_name.is_none() && fresh.source_file_name.is_none();
            let repeated = (nameless || other.operation == Operation::Remove)
                && other.operation == fresh.operation
                && other.lists == fresh.lists
                && other.contacts == fresh.contacts;
            if !repeated && fresh.contacts.iter().any(|contact| other.contacts.contains(contact)) {
                let detail = format!(
                    "activity {id} ({}) was started while {} ({}) touches the same contact",
                    fresh.operation.as_str(),
                    other.activity_id,
                    other.operation.as_str()
                );
                return Err((Promise::OneInFlightPerContact, detail));
            }
        }
        Ok(())
    }
}
