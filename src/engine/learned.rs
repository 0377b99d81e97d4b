//! What was found out of a connection, and is written in one record with what its suppressed contacts and its staging lists
//! have to say.

use crate::model::{
    Text,
    catalog::ConnectionId,
    state::{ConnectionRecord, StateChange, StateKey, StateValue},
};

use super::{ConnectionState, Engine, activity_time::ActivityTime};

/// What is known of a connection, once something told.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Whether the vendor gives the names of imported files back.
    pub(super) names_echoed: Option<bool>,
    /// Whether contacts leave both lists when a removal names its source among its targets.
    pub(super) removes_from_source: Option<bool>,
    /// What its activities take: milliseconds of an empty one, and microseconds for each row.
    activity_time: (u64, u64),
    /// The connection's record is to be written.
    pub(super) due: bool,
}

impl Learned {
    /// What was learned of the vendor's times is written when it has changed much.
    pub(super) fn keep_activity_time(&mut self, learned: (u64, u64)) {
        let near = |was: u64, is: u64| was.abs_diff(is) <= is / 5 + 100;
        if !near(self.activity_time.0, learned.0) || !near(self.activity_time.1, learned.1) {
            self.activity_time = learned;
            self.due = true;
        }
    }
}

impl ConnectionState {
    /// What the state says of it.
    pub(super) fn restore_record(&mut self, record: &ConnectionRecord) {
        let activity_time = (record.activity_start_ms, record.activity_row_us);
        self.activity_time = ActivityTime::restored(activity_time.0, activity_time.1);
        self.learned = Learned {
            names_echoed: record.names_echoed,
            removes_from_source: record.removes_from_source,
            activity_time,
            due: false,
        };
        self.staging.restore(record);
        self.suppression.restore_read_at(record.suppressed_read_at);
        self.contract.restore(&record.adds_by_minute);
    }

    /// Appends the records that are due.
    pub(super) fn records(&mut self, connection: &Text, changes: &mut Vec<StateChange>) {
        self.suppression.records(connection, changes);
        if !std::mem::take(&mut self.learned.due) {
            return;
        }
        // What else it says may not wait for a reading under way: a round goes with the record of its staging list.
        self.learned.due = self.suppression.is_read_unwritten();
        let (activity_start_ms, activity_row_us) = self.learned.activity_time;
        let record = ConnectionRecord {
            suppressed_read_at: self.suppression.written_read_at(),
            names_echoed: self.learned.names_echoed,
            activity_start_ms,
            activity_row_us,
            removes_from_source: self.learned.removes_from_source,
            staging_lists: self.staging.records(),
            adds_by_minute: self.contract.adds_by_minute(),
        };
        let key = StateKey::Connection { connection: connection.clone() };
        changes.push(StateChange { key, value: Some(StateValue::Connection(record)) });
    }
}

impl Engine {
    /// A connection's record goes with the next transaction.
    pub(super) fn connection_due(&mut self, id: ConnectionId) {
        self.connection_mut(id).learned.due = true;
        self.journal.moved = true;
    }
}
