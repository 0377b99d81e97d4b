//! What an export may still move within the hour: every batch counts against its ceiling from when it is sent.

use crate::model::{
    batch::{Operation, RoundStep},
    catalog::{ConnectionId, ExportId},
    time::{Now, UnixMillis},
};

use super::{Engine, hourly::HourlyRows, planner::Group, rounds::Round};

impl Engine {
    /// Rows that the hourly ceiling still allows at `at`.
    fn room(&self, at: UnixMillis, export: ExportId) -> usize {
        let Some(max) = self.catalog.export(export).profiles_per_hour_max else { return usize::MAX };
        usize::try_from(self.export(export).hourly.room(at, max)).unwrap_or(usize::MAX)
    }

    /// Rows that the hourly ceiling still allows.
    pub(super) fn rows_allowed(&self, now: Now, export: ExportId) -> usize {
        self.room(self.hour_now(self.export(export).application, now), export)
    }

    /// The same for what a group would send now.
    pub(super) fn room_for(&self, now: Now, group: Group) -> usize {
        match group.operation {
            Operation::Remove if self.export(group.export).removals.found.live == 0 => self.round_rows_allowed(now, group.export),
            Operation::Import | Operation::Remove => self.rows_allowed(now, group.export),
        }
    }

    /// The same for a round, whose contacts leave once they were imported.
    pub(super) fn round_rows_allowed(&self, now: Now, export: ExportId) -> usize {
        let state = self.export(export);
        self.room(self.staged_at(state.connection, self.hour_now(state.application, now), 0), export)
    }

    /// When the import of a round that is begun now is over, at the earliest.
    pub(super) fn staged_at(&self, connection: ConnectionId, hour_now: UnixMillis, rows: u64) -> UnixMillis {
        let takes_ms = self.connections[usize::from(connection.0)].activity_time.look_after_ms(rows);
        hour_now.plus_ms(i64::try_from(takes_ms).unwrap_or(0))
    }

    /// Whether the hour has room for a batch. What was counted has its place: a round that comes to its removal earlier than
    /// it was counted on may have to wait until then, and what could not be sent for an hour needs a new place.
    pub(super) fn hour_has_room(&mut self, now: Now, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number) else { return false };
        let (export, counted_at, rows) = (batch.export, batch.counted_at, batch.rows.len() as u64);
        let Some(max) = self.catalog.export(export).profiles_per_hour_max else { return true };
        let hour_now = self.hour_now(self.export(export).application, now);
        let forgotten = HourlyRows::is_forgotten(counted_at, hour_now);
        if batch.stages() || batch.is_at(RoundStep::Empty) || (counted_at <= hour_now && !forgotten) {
            return true;
        }
        let hourly = &mut self.export_mut(export).hourly;
        // More than the hour may hold at all needs an empty one.
        let rows_min = rows.min(max);
        let (fits, waits_ms) = if forgotten {
            (hourly.room(hour_now, max) >= rows_min, hourly.fits_in_ms(hour_now, rows, max).max(1))
        } else {
            hourly.give_back(counted_at, rows);
            let fits = hourly.room(hour_now, max) >= rows_min;
            hourly.add(hour_now, counted_at, rows);
            (fits, counted_at.since_ms(hour_now))
        };
        if !fits {
            self.wake_at(now.mono.plus_ms(waits_ms));
        }
        fits
    }

    /// What is sent counts from now on, whenever it was cut, and a round from when its import should be over.
    pub(super) fn count_rows(&mut self, now: Now, number: u64) {
        let Some(batch) = self.batches.get(&number) else { return };
        let (export, connection, rows, before) = (batch.export, batch.connection, batch.rows.len() as u64, batch.counted_at);
        let hour_now = self.hour_now(self.export(export).application, now);
        let at = match &batch.round {
            Some(Round { step: RoundStep::Import, .. }) => self.staged_at(connection, hour_now, rows).max(before),
            // They have left the target already.
            Some(Round { step: RoundStep::Empty, .. }) => return,
            Some(_) | None => hour_now,
        };
        let counted_at = self.export_mut(export).hourly.count_again(before, hour_now, at, rows);
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.counted_at = counted_at;
        }
    }

    /// Rows that were sent in the last 60 minutes.
    pub(super) fn rows_last_hour(&self, now: Now, export: ExportId) -> u64 {
        let state = self.export(export);
        state.hourly.rows(self.hour_now(state.application, now))
    }
}
