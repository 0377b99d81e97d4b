//! What to cut into batches now, and why.
//!
//! Why: contacts per call are cheap and calls per day are scarce. While the day's calls are ahead of an even spread a
//! change waits a second for others; when they are not, groups wait as long as their share of the calls left asks.

use std::sync::Arc;

use crate::model::{
    batch::{CutReason, ImportRows, Operation},
    catalog::ExportId,
    hash::text_hash,
    time::{Now, UnixMillis},
};

use super::{
    Engine,
    activity::{BatchRow, Cut},
    coalescer::{Queue, Waiting},
    event::HoldReason,
    limits::{
        CALLS_AHEAD, IMPORT_BYTES_MAX, IMPORT_ROWS_MAX, LANE_CALLS, LINGER_MAX_MS, LINGER_MIN_MS, OPEN_BATCHES_MAX,
        REMOVAL_IDS_MAX, count,
    },
    membership::ContactSlot,
    removal::Finding,
};

/// The window of the hourly ceiling, in whole minutes.
pub(super) const HOUR_MINUTES: i64 = 60;

/// The minute that an instant lies in.
pub(super) const fn minute_of(at: UnixMillis) -> i64 {
    at.0.div_euclid(60_000)
}

impl Engine {
    /// Cuts every batch that is ready.
    pub(super) fn plan(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        for application in &mut self.applications {
            application.busy = 0;
        }
        for export in &self.exports {
            let groups = u64::from(export.imports.live > 0) + 2 * u64::from(export.removals.live() > 0);
            if let Some(application) = self.applications.get_mut(usize::from(export.application.0)) {
                application.busy += groups;
            }
        }
        for export in self.export_ids() {
            self.tidy(now, export);
            if !self.may_cut(now, export) {
                continue;
            }
            let may_import = self.export(export).imports.live == 0 || self.may_import(now, export);
            while may_import && let Some(reason) = self.import_ready(now, export) {
                if !self.cut_imports(now, export, reason) {
                    break;
                }
            }
            self.plan_removals(now, export);
        }
    }

    fn tidy(&mut self, now: Now, export: ExportId) {
        while let Some((at, slot)) = self.export(export).removals.first_later() {
            if at > now.mono {
                self.wake_at(at);
                break;
            }
            if let Some(mut waiting) = self.take_waiting(export, slot) {
                waiting.not_before = None;
                self.put_waiting(export, slot, waiting);
            }
        }
        let state = self.export_mut(export);
        let members = &state.members;
        let live = |slot: ContactSlot, sequence: u64| members.waits(slot, sequence);
        state.imports.tidy(live);
        state.removals.unfound.tidy(live);
        state.removals.found.tidy(live);
    }

    /// Whether batches of an export could be sent now; cutting early would only fence contacts for longer.
    fn may_cut(&mut self, now: Now, export: ExportId) -> bool {
        let state = self.export(export);
        let waits = state.imports.live > 0 || state.removals.live() > 0;
        if !waits
            || !state.routed
            || state.list.is_none()
            || state.held.is_some()
            || self.routing_hold(export).is_some()
            || !state.existing.is_read()
        {
            return false;
        }
        let connection = &self.connections[usize::from(state.connection.0)];
        let application = &self.applications[usize::from(state.application.0)];
        if application.held.is_some() || connection.held.is_some() || connection.open_batches >= OPEN_BATCHES_MAX {
            return false;
        }
        // A batch that cannot be sent today would fence its contacts until tomorrow.
        let quota = &application.quota;
        if !quota.has_left(now, quota.lane(LANE_CALLS)) {
            let until = quota.opens_at(now.mono).unwrap_or(now.mono.plus_ms(60_000)).max(now.mono.plus_ms(1_000));
            self.export_mut(export).held = Some((HoldReason::QuotaSpent, until));
            self.wake_at(until);
            return false;
        }
        let allowed = self.rows_allowed(now, export);
        if allowed == 0 {
            let again = now.mono.plus_ms(60_000);
            self.export_mut(export).held = Some((HoldReason::ProfilesPerHour, again));
            self.wake_at(again);
        }
        allowed > 0
    }

    /// Rows that the hourly ceiling still allows.
    pub(super) fn rows_allowed(&self, now: Now, export: ExportId) -> usize {
        let Some(max) = self.catalog.export(export).profiles_per_hour_max else { return usize::MAX };
        let state = self.export(export);
        let used = self.rows_last_hour(now, export) + state.rows_open;
        usize::try_from(max.saturating_sub(used)).unwrap_or(usize::MAX)
    }

    /// Rows of completed activities in the last 60 minutes; the minute that began an hour ago counts whole.
    pub(super) fn rows_last_hour(&self, now: Now, export: ExportId) -> u64 {
        let state = self.export(export);
        let from = minute_of(self.vendor_now(state.application, now)) - HOUR_MINUTES;
        state.rows_by_minute.range(from..).map(|(_, rows)| rows).sum()
    }

    /// How long a change waits for others, at what a call costs now.
    fn linger_ms(&self, now: Now, export: ExportId) -> u64 {
        let application = self.export(export).application;
        let quota = &self.applications[usize::from(application.0)].quota;
        let (Some(left), Some(limit)) = (quota.left(), quota.limit()) else { return LINGER_MIN_MS };
        let day_left_ms = quota.day_left_ms(now.mono);
        let even = u64::from(limit) * day_left_ms / 86_400_000;
        let usable = u64::from(left.saturating_sub(LANE_CALLS));
        if usable + CALLS_AHEAD.min(u64::from(limit) / 20) >= even && usable > CALLS_AHEAD.min(u64::from(limit) / 20) {
            return LINGER_MIN_MS;
        }
        let busy = self.applications[usize::from(application.0)].busy;
        (2 * busy.max(1) * day_left_ms / usable.max(1)).clamp(LINGER_MIN_MS, LINGER_MAX_MS)
    }

    pub(super) fn ready(&mut self, now: Now, export: ExportId, queue: impl Fn(&Engine) -> &Queue) -> bool {
        let Some(oldest) = queue(self).oldest() else { return false };
        let due = oldest.plus_ms(self.linger_ms(now, export));
        if due > now.mono {
            self.wake_at(due);
        }
        due <= now.mono
    }

    fn import_ready(&mut self, now: Now, export: ExportId) -> Option<CutReason> {
        let state = self.export(export);
        if state.imports.live >= IMPORT_ROWS_MAX {
            return Some(CutReason::Rows);
        }
        if state.imports.bytes >= IMPORT_BYTES_MAX {
            return Some(CutReason::Bytes);
        }
        self.ready(now, export, |engine| &engine.export(export).imports).then_some(CutReason::Age)
    }

    /// Cuts one import. False when nothing could be cut, or no more may be.
    fn cut_imports(&mut self, now: Now, export: ExportId, reason: CutReason) -> bool {
        let rows_max = IMPORT_ROWS_MAX.min(self.rows_allowed(now, export));
        let config = self.catalog.export(export);
        let custom_fields = Arc::clone(&config.mapping.custom_names);
        let header = 64 + custom_fields.iter().map(|name| name.len() + 8).sum::<usize>();
        let bytes_max = IMPORT_BYTES_MAX.saturating_sub(header);
        let Some(list) = self.export(export).list else { return false };
        let (mut rows, mut lines, mut bytes) = (Vec::new(), Vec::new(), 0);
        while rows.len() < rows_max {
            let Some((slot, sequence)) = self.export_mut(export).imports.pop() else { break };
            if !self.export(export).members.waits(slot, sequence) || self.deferred(export, slot) {
                continue;
            }
            let state = self.export_mut(export);
            let Some(waiting) = state.members.contact(slot).waiting.as_ref() else { continue };
            if bytes + waiting.bytes > bytes_max {
                // It goes first in the next one.
                let queued_at = waiting.queued_at;
                state.imports.put_back(slot, sequence, queued_at);
                break;
            }
            let Some(waiting) = self.take_waiting(export, slot) else { continue };
            bytes += waiting.bytes;
            let address = self.export(export).members.contact(slot).address.clone();
            let row_hash = waiting.row.hash();
            let Waiting { since, tokens, parks_at, touched, row, .. } = *waiting;
            rows.push(BatchRow { slot, row_hash, since, tokens, parks_at, touched });
            lines.push((address, row));
        }
        if rows.is_empty() {
            return false;
        }
        let import = ImportRows {
            custom_fields,
            has_first_name: lines.iter().any(|(_, row)| row.first_name.is_some()),
            has_last_name: lines.iter().any(|(_, row)| row.last_name.is_some()),
            rows: Arc::from(lines),
        };
        let cut = Cut { export, operation: Operation::Import, rows, import: Some(import), ids: Vec::new(), round: None, reason };
        self.open_batch(now, list, cut);
        let connection = self.export(export).connection;
        self.connections[usize::from(connection.0)].open_batches < OPEN_BATCHES_MAX && self.rows_allowed(now, export) > 0
    }

    /// A contact that another export's activity holds waits for that fence, outside its queue.
    pub(super) fn deferred(&mut self, export: ExportId, slot: ContactSlot) -> bool {
        let state = &self.exports[usize::from(export.0)];
        let hash = text_hash(&state.members.contact(slot).address);
        let id = state.connection;
        let connection = usize::from(id.0);
        let by_ghost = !self.ghosts.is_empty() && self.ghost_fence(id, hash).is_some();
        if !by_ghost && !self.connections[connection].fences.contains_key(&hash) {
            return false;
        }
        if let Some(mut waiting) = self.take_waiting(export, slot) {
            waiting.operation = None;
            self.put_waiting(export, slot, waiting);
        }
        let fence = if by_ghost { self.ghost_fence(id, hash) } else { self.connections[connection].fences.get_mut(&hash) };
        if let Some(fence) = fence {
            // It may come here again before the fence falls, if an event put it back into its queue.
            if !fence.contains(&(export, slot)) {
                fence.push((export, slot));
            }
        }
        true
    }

    /// Cuts removals whose contact ids are known, when they are due.
    pub(super) fn cut_removals(&mut self, now: Now, export: ExportId) {
        let Some(list) = self.export(export).list else { return };
        loop {
            let rows_max = REMOVAL_IDS_MAX.min(self.rows_allowed(now, export));
            let connection = self.export(export).connection;
            if self.connections[usize::from(connection.0)].open_batches >= OPEN_BATCHES_MAX || rows_max == 0 {
                return;
            }
            let (mut rows, mut ids) = (Vec::new(), Vec::new());
            while rows.len() < rows_max {
                let Some((slot, sequence)) = self.export_mut(export).removals.found.pop() else { break };
                if !self.export(export).members.waits(slot, sequence) || self.deferred(export, slot) {
                    continue;
                }
                let Some(waiting) = self.take_waiting(export, slot) else { continue };
                let Some(id) = self.export_mut(export).members.take_id(slot) else { continue };
                let Waiting { since, tokens, parks_at, touched, .. } = *waiting;
                rows.push(BatchRow { slot, row_hash: 0, since, tokens, parks_at, touched });
                ids.push(id);
            }
            if rows.is_empty() {
                return;
            }
            let reason = if rows.len() == REMOVAL_IDS_MAX { CutReason::Rows } else { CutReason::Age };
            self.open_batch(
                now,
                list,
                Cut { export, operation: Operation::Remove, rows, import: None, ids, round: None, reason },
            );
        }
    }

    fn plan_removals(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        let many = state.removals.found.live >= REMOVAL_IDS_MAX;
        match state.finding {
            // Nothing leaves the list while it is paged through: a page that shifts could hide a member.
            Finding::Scanning { .. } => return,
            Finding::LookingUp { .. } => {
                if many {
                    self.cut_removals(now, export);
                }
                return;
            }
            Finding::Staging { .. } => {
                self.cut_rounds(now, export);
                if many {
                    self.cut_removals(now, export);
                }
                return;
            }
            Finding::Idle => {}
        }
        let found = self.ready(now, export, |engine| &engine.export(export).removals.found);
        let unfound = self.ready(now, export, |engine| &engine.export(export).removals.unfound);
        if many || found || unfound {
            self.cut_removals(now, export);
        }
        if unfound {
            self.begin_finding(now, export);
        }
    }

    /// Changes of an export that wait, for the view.
    pub(super) fn waiting_of(&self, export: ExportId) -> u64 {
        let state = self.export(export);
        u64::from(count(state.imports.live + state.removals.live()))
    }
}
