//! What answers mean: for the call that they end, for the token, for the pace and the day's calls.

use crate::model::{
    activity::Activity,
    batch::Operation,
    call::{Answer, Disposition, List, Lost, NotSent, Outcome, Refusal},
    catalog::{ConnectionId, ExportId, ListRef},
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    activity::{Ending, Look, Stage},
    calls::{CallInFlight, Polling, Purpose, TokenState},
    event::CallResult,
    input::TokenOutcome,
    limits::{ACTIVITY_SHOWN_MS, CREATED_SKEW_MS, LEASE_MS, POLL_PAGES_MAX},
    output::{CallId, RefreshId},
    planted::{Bug, planted},
    reason::{HoldReason, Holder},
    refusals::{RETRY_HELD_MS, was_counted},
    removal::Finding,
};

/// A token that could not be refreshed in good time, or whose time to refresh has passed when it is read.
const REFRESH_AGAIN_MS: i64 = 60_000;

/// Whether a listing was refused in a way that its cursor may explain: it is begun again.
pub(super) fn is_stale(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Refused(Refusal { disposition: Disposition::Invalid | Disposition::NotFound | Disposition::Conflict, .. })
    )
}

impl Engine {
    /// A call was answered as it should be: what kept it from going well is over.
    fn goes_well(&mut self, call: &CallInFlight, export: Option<ExportId>) {
        let begins = matches!(call.purpose, Purpose::Post(_));
        if begins {
            self.connection_mut(call.connection).full_queue.has_room(call.handed_over);
            self.wait_for_a_person.remove(&Holder::Connection(call.connection));
        }
        let finds = matches!(call.purpose, Purpose::FindList(_) | Purpose::CreateList(_));
        if let Some(export) = export.filter(|_| begins || finds) {
            self.wait_for_a_person.remove(&Holder::Export(export));
        }
    }

    pub(super) fn on_call_ended(&mut self, now: Now, id: CallId, outcome: Outcome, vendor_time: Option<UnixMillis>) {
        let Some(call) = self.calls.remove(&id) else {
            self.emit(Event::LateAnswer { kind: None });
            return;
        };
        let deadline_ms = self.catalog.timing.request_deadline_ms;
        let state = self.application_mut(call.application);
        if let Some(date) = vendor_time {
            state.quota.read_clock(date, call.handed_over, now.mono);
        } else {
            state.quota.first_call_ended(call.permit.charge);
        }
        match &outcome {
            Outcome::NotSent(_) => {
                state.pacer.unused(call.permit.slot);
                state.quota.refund(call.permit.charge);
            }
            // What was written before the connection broke may still arrive, until the deadline that it was sent under.
            Outcome::Unknown(Lost::Reset) => {
                let latest = call.handed_over.plus_ms(LEASE_MS + deadline_ms);
                state.pacer.answered(call.permit.slot, latest.max(now.mono));
            }
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(Lost::Timeout | Lost::Unreadable) => {
                state.pacer.answered(call.permit.slot, now.mono);
            }
        }
        match &outcome {
            Outcome::Answered(_) => state.quota.answered(call.handed_over),
            Outcome::Refused(refusal) if was_counted(refusal.disposition) => state.quota.answered(call.handed_over),
            Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {}
        }
        let (result, failed) = match &outcome {
            Outcome::Answered(_) => (CallResult::Ok, false),
            Outcome::Refused(refusal) => {
                (CallResult::Refused(refusal.disposition), refusal.disposition == Disposition::ServerError)
            }
            Outcome::Unknown(_) => (CallResult::Unknown, true),
            Outcome::NotSent(NotSent::TooLate) => (CallResult::NotSent, false),
            Outcome::NotSent(NotSent::Unreachable | NotSent::NoToken) => (CallResult::NotSent, true),
        };
        let export = self.export_of(&call.purpose);
        self.emit(Event::CallEnded {
            application: call.application,
            connection: call.connection,
            export,
            kind: call.kind,
            result,
            took_ms: now.mono.since_ms(call.handed_over),
        });
        if failed {
            self.back_off(now, call.connection);
        } else if matches!(outcome, Outcome::Answered(_)) {
            let state = self.connection_mut(call.connection);
            state.failures = 0;
            state.rejections = 0;
            self.goes_well(&call, export);
        }
        if let Outcome::Refused(refusal) = &outcome {
            self.on_refused(now, &call, refusal);
        }
        self.probe_again(now, &call, &outcome);
        match call.purpose {
            Purpose::Post(number) => self.on_posted(now, number, outcome),
            Purpose::PollOne(number) => self.on_polled_one(now, call.connection, number, outcome),
            Purpose::PollAll(connection, page) => self.on_polled_all(now, connection, page, outcome),
            Purpose::Look(number) => self.on_look(now, number, outcome),
            Purpose::Clear(number) => self.on_clear(now, number, outcome),
            Purpose::Scan(export) => match outcome {
                Outcome::Answered(Answer::Contacts(page)) => self.on_page(now, export, page),
                Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {
                    let stale = is_stale(&outcome);
                    if let Finding::Scanning { cursor, under_way, .. } = &mut self.export_mut(export).finding {
                        *under_way = false;
                        if stale {
                            *cursor = None;
                        }
                    }
                }
            },
            Purpose::LookUp(export, slot, sequence) => match outcome {
                Outcome::Answered(Answer::Contacts(page)) => {
                    self.on_looked_up(now, call.handed_over, export, (slot, sequence), &page)
                }
                Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {
                    if let Finding::LookingUp { under_way, .. } = &mut self.export_mut(export).finding {
                        *under_way = false;
                    }
                    self.put_back(export, slot, sequence);
                }
            },
            Purpose::LookUpErased(export, slot, sequence) => {
                self.on_looked_up_erased(now, call.handed_over, export, (slot, sequence), &outcome)
            }
            Purpose::Suppressed(connection) => self.on_suppressed(now, connection, call.handed_over, outcome),
            Purpose::LookUpSuppressed(connection, address) => match &outcome {
                Outcome::Answered(Answer::Contacts(page)) => self.on_looked_up_suppressed(now, connection, &address, Some(page)),
                Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {
                    self.on_looked_up_suppressed(now, connection, &address, None)
                }
            },
            Purpose::FindList(export) => self.on_list_found(now, export, outcome),
            Purpose::CreateList(export) => self.on_list_created(now, export, outcome),
            Purpose::ReadExisting(export) => self.on_existing(export, outcome),
            Purpose::Pool(connection, pool_call) => self.on_pool(now, connection, pool_call, outcome),
            Purpose::Check(number) => self.on_checked(now, number, outcome),
            Purpose::CountContacts(connection) => self.on_contacts_counted(now, connection, call.handed_over, &outcome),
        }
    }

    pub(super) fn export_of(&self, purpose: &Purpose) -> Option<ExportId> {
        match purpose {
            Purpose::Post(number)
            | Purpose::PollOne(number)
            | Purpose::Look(number)
            | Purpose::Clear(number)
            | Purpose::Check(number) => self.batches.get(number).map(|batch| batch.export),
            Purpose::PollAll(..)
            | Purpose::Suppressed(_)
            | Purpose::LookUpSuppressed(..)
            | Purpose::Pool(..)
            | Purpose::CountContacts(_) => None,
            Purpose::Scan(export)
            | Purpose::LookUp(export, _, _)
            | Purpose::LookUpErased(export, _, _)
            | Purpose::FindList(export)
            | Purpose::CreateList(export)
            | Purpose::ReadExisting(export) => Some(*export),
        }
    }

    fn on_posted(&mut self, now: Now, number: u64, outcome: Outcome) {
        let tries_both = self.tries_both(number);
        let Some(batch) = self.batches.get_mut(&number) else { return };
        match outcome {
            Outcome::Answered(Answer::Activity(activity)) => {
                let (name, export, operation) = (batch.name.clone(), batch.export, batch.sends());
                let connection = batch.connection;
                let rows = batch.rows.len() as u64;
                let next_poll = now.mono.plus_ms(self.connections[usize::from(connection.0)].activity_time.look_after_ms(rows));
                if let Some(batch) = self.batches.get_mut(&number) {
                    batch.stage = Stage::running(activity.activity_id, next_poll, now.mono);
                }
                self.emit(Event::ActivityStarted { name, export, operation });
                if planted(Bug::AppliedAt201) {
                    self.end(number, Ending::Applied { at: now.wall, refused: Vec::new() });
                }
            }
            Outcome::Answered(_) | Outcome::Unknown(Lost::Timeout | Lost::Reset | Lost::Unreadable) => {
                self.on_ambiguous(now, number)
            }
            Outcome::NotSent(_) => batch.stage = Stage::Ready,
            Outcome::Refused(refusal) => match refusal.disposition {
                Disposition::ServerError => self.on_ambiguous(now, number),
                Disposition::Invalid | Disposition::NotFound if tries_both => self.goes_in_two(number),
                Disposition::Split if batch.rows.len() > 1 && batch.round.is_none() => self.split(now, number),
                Disposition::Throttled | Disposition::QuotaExceeded | Disposition::RefreshToken | Disposition::QueueFull => {
                    batch.stage = Stage::Ready;
                }
                // One row alone is too large for the vendor.
                Disposition::Split if batch.operation == Operation::Import => {
                    self.end(number, Ending::Applied { at: now.wall, refused: vec![0] });
                }
                // This attempt was refused, an earlier one may still run.
                Disposition::Split
                | Disposition::HoldConnection
                | Disposition::NotFound
                | Disposition::Conflict
                | Disposition::Invalid
                    if batch.repeated =>
                {
                    batch.stage = Stage::clearing(now.mono, false);
                }
                // Refused as a whole: the export is held meanwhile, and its contacts are decided anew.
                Disposition::Split
                | Disposition::HoldConnection
                | Disposition::NotFound
                | Disposition::Conflict
                | Disposition::Invalid => self.end(number, Ending::NotDone),
            },
        }
    }

    /// The vendor may or may not have taken a batch. An import is looked for by its name; a removal is repeated as it
    /// was, once its deadline is over.
    pub(super) fn on_ambiguous(&mut self, now: Now, number: u64) {
        let deadline_ms = self.catalog.timing.request_deadline_ms;
        let Some(batch) = self.batches.get(&number) else { return };
        let nameless = self.is_nameless(batch.connection);
        let Some(batch) = self.batches.get_mut(&number) else { return };
        match batch.sends() {
            Operation::Import if planted(Bug::SentAgainUnseen) => batch.stage = Stage::Ready,
            Operation::Import if !nameless => {
                let look = Look { cursor: None, absent_since: None, next_at: now.mono.plus_ms(1_000), under_way: false };
                batch.stage = Stage::Looking(look);
            }
            Operation::Import | Operation::Remove => {
                batch.repeated = true;
                batch.not_before = now.mono.plus_ms(deadline_ms);
                batch.stage = Stage::Ready;
            }
        }
    }

    fn on_polled_one(&mut self, now: Now, connection: ConnectionId, number: u64, outcome: Outcome) {
        self.connection_mut(connection).polling = Polling::Idle;
        match outcome {
            Outcome::Answered(Answer::Activity(activity)) if self.import_ahead(number) == Some(activity.activity_id) => {
                self.on_import_ahead(now, number, &activity);
                if self.import_ahead(number).is_some() {
                    self.poll_again(now, number);
                }
            }
            Outcome::Answered(Answer::Activity(activity)) => {
                let mine = matches!(
                    self.batches.get(&number).map(|batch| &batch.stage),
                    Some(Stage::Running { activity: id, .. }) if *id == activity.activity_id
                );
                if mine {
                    self.on_activity(now, number, &activity);
                }
            }
            // Just created, it may not be shown yet; after ten days it is not shown any more.
            Outcome::Refused(Refusal { disposition: Disposition::NotFound, .. }) => {
                let since = match self.batches.get(&number).map(|batch| &batch.stage) {
                    Some(Stage::Running { since, .. }) => *since,
                    Some(_) | None => now.mono,
                };
                if now.mono.since_ms(since) > ACTIVITY_SHOWN_MS {
                    self.end(number, Ending::Unknown);
                } else {
                    self.poll_again(now, number);
                }
            }
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {
                self.poll_again(now, number);
            }
        }
    }

    pub(super) fn poll_again(&mut self, now: Now, number: u64) {
        let Some(batch) = self.batches.get(&number) else { return };
        let Stage::Running { since, .. } = batch.stage else { return };
        let interval_ms = self.poll_interval_ms(now, batch.connection, since).max(2_000);
        if let Some(Stage::Running { next_poll, .. }) = self.batches.get_mut(&number).map(|batch| &mut batch.stage) {
            *next_poll = now.mono.plus_ms(interval_ms);
        }
    }

    /// One page of a round of polls. Absence means nothing before the last page; one that no page shows is read by
    /// itself the next time.
    fn on_polled_all(&mut self, now: Now, connection: ConnectionId, page: u32, outcome: Outcome) {
        let running: Vec<(u64, crate::model::ActivityId, Option<UnixMillis>)> = self
            .batches
            .iter()
            .filter(|(_, batch)| batch.connection == connection)
            .filter_map(|(number, batch)| match batch.stage {
                // One that is not due may have begun after this page was asked for: that it is missing means nothing.
                Stage::Running { activity, next_poll, .. } => {
                    Some((*number, activity, (next_poll <= now.mono).then_some(batch.opened_at)))
                }
                Stage::Opening
                | Stage::Committing(_)
                | Stage::Ready
                | Stage::Posting
                | Stage::Looking(_)
                | Stage::Clearing { .. }
                | Stage::Checking(_)
                | Stage::Ended(_) => None,
            })
            .collect();
        let (items, next, answered) = match outcome {
            Outcome::Answered(Answer::Activities(page)) => (page.items, page.next, true),
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => (Vec::new(), None, false),
        };
        self.watch(now, connection, &items);
        let mut missing = Vec::new();
        for (number, id, opened_at) in running {
            let import = self.import_ahead(number);
            let import_shown = items.iter().find(|activity| import == Some(activity.activity_id));
            match import_shown {
                Some(activity) => self.on_import_ahead(now, number, activity),
                // Its removal tells nothing without it.
                None if import.is_some() => {
                    missing.extend(opened_at.map(|opened_at| (number, opened_at)));
                    continue;
                }
                None => {}
            }
            match items.iter().find(|activity| activity.activity_id == id) {
                Some(activity) => self.on_activity(now, number, activity),
                None => missing.extend(opened_at.map(|opened_at| (number, opened_at))),
            }
        }
        let shown = items.last().and_then(|activity| activity.created_at);
        let passed = |opened_at: UnixMillis| shown.is_some_and(|created| created < opened_at.plus_ms(-CREATED_SKEW_MS));
        let ghosts = self.ghosts_since(connection);
        let looks = self.ghosts_due(connection).is_some_and(|at| at <= now.mono);
        let unseen = ghosts.is_some_and(|since| !passed(since));
        let looked = looks || !unseen || next.is_none();
        let unread = (looks && unseen) || missing.iter().any(|(_, opened_at)| !passed(*opened_at));
        if let Some(cursor) = next.filter(|_| unread && page + 1 < POLL_PAGES_MAX) {
            self.connection_mut(connection).polling = Polling::NextPage(cursor, page + 1);
            return;
        }
        self.connection_mut(connection).polling = Polling::Idle;
        if ghosts.is_some() && looked {
            self.ghosts_looked(now, connection, answered);
        }
        for (number, _) in missing {
            if answered && let Some(Stage::Running { unlisted, .. }) = self.batches.get_mut(&number).map(|b| &mut b.stage) {
                *unlisted = true;
            }
            self.poll_again(now, number);
        }
    }

    /// One page of a look for an import's name.
    fn on_look(&mut self, now: Now, number: u64, outcome: Outcome) {
        let quiet_ms = self.catalog.timing.quiet_ms;
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let oldest = batch.opened_at.plus_ms(-CREATED_SKEW_MS);
        let file_name = batch.name.file_name();
        let Stage::Looking(look) = &mut batch.stage else { return };
        look.under_way = false;
        let Outcome::Answered(Answer::Activities(page)) = outcome else {
            look.next_at = now.mono.plus_ms(2_000);
            if is_stale(&outcome) {
                look.cursor = None;
            }
            return;
        };
        let found = page.items.iter().find(|activity| activity.source_file_name.as_deref() == Some(file_name.as_str())).cloned();
        if let Some(activity) = found {
            let (name, connection) = (batch.name.clone(), batch.connection);
            batch.stage = Stage::running(activity.activity_id, now.mono, now.mono);
            self.connection_mut(connection).full_queue.has_room(now.mono);
            self.emit(Event::BatchFound { name });
            self.on_activity(now, number, &activity);
            return;
        }
        let reached = page.items.last().is_some_and(|activity| activity.created_at.is_some_and(|created| created < oldest));
        if let Some(next) = page.next.filter(|_| !reached) {
            look.cursor = Some(next);
            look.next_at = now.mono;
            return;
        }
        look.cursor = None;
        match look.absent_since {
            None if !planted(Bug::AbsentAtFirstLook) => {
                look.absent_since = Some(now.mono);
                look.next_at = now.mono.plus_ms(quiet_ms);
            }
            Some(_) | None => {
                let name = batch.name.clone();
                batch.given_up = true;
                let connection = batch.connection;
                self.emit(Event::BatchGivenUp { name });
                if self.names_echoed(connection) == Some(true) {
                    self.end(number, Ending::Unknown);
                } else if let Some(batch) = self.batches.get_mut(&number) {
                    // Nobody knows yet whether names come back: one without a name may be it.
                    batch.stage = Stage::clearing(now.mono, false);
                }
            }
        }
    }

    /// One page of a look for nameless activities that a repeated removal must wait for.
    fn on_clear(&mut self, now: Now, number: u64, outcome: Outcome) {
        let ours: Vec<crate::model::ActivityId> = self
            .batches
            .values()
            .filter_map(|batch| match batch.stage {
                Stage::Running { activity, .. } => Some(activity),
                Stage::Opening
                | Stage::Committing(_)
                | Stage::Ready
                | Stage::Posting
                | Stage::Looking(_)
                | Stage::Clearing { .. }
                | Stage::Checking(_)
                | Stage::Ended(_) => None,
            })
            .collect();
        let Some(export) = self.batches.get(&number).map(|batch| batch.export) else { return };
        let ended_at = self.vendor_now(self.export(export).application, now);
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let oldest = batch.opened_at.plus_ms(-CREATED_SKEW_MS);
        // How many were on a staging list when it was emptied twice, nobody knows.
        let tells = !batch.restored && batch.round.is_none();
        let Stage::Clearing { next_at, cursor, under_way, waiting_for, completed } = &mut batch.stage else { return };
        *under_way = false;
        let Outcome::Answered(Answer::Activities(page)) = outcome else {
            *next_at = now.mono.plus_ms(2_000);
            if is_stale(&outcome) {
                *cursor = None;
                *waiting_for = false;
            }
            return;
        };
        let foreign = |activity: &Activity| {
            activity.source_file_name.is_none() && !activity.state.is_final() && !ours.contains(&activity.activity_id)
        };
        *waiting_for |= page.items.iter().any(foreign);
        let reached = page.items.last().is_some_and(|activity| activity.created_at.is_some_and(|created| created < oldest));
        if let Some(next) = page.next.filter(|_| !reached) {
            *cursor = Some(next);
            *next_at = now.mono;
            return;
        }
        if std::mem::take(waiting_for) {
            *cursor = None;
            *next_at = now.mono.plus_ms(5_000);
            return;
        }
        let done = *completed && tells;
        let ending = if done { Ending::Applied { at: ended_at, refused: Vec::new() } } else { Ending::Unknown };
        self.end(number, ending);
    }

    fn on_list_found(&mut self, now: Now, export: ExportId, outcome: Outcome) {
        self.export_mut(export).list_call = false;
        let ListRef::Named { name, create } = self.catalog.export(export).list.clone() else { return };
        if let Outcome::Answered(Answer::Lists(page)) = outcome {
            match page.items.iter().find(|list| list.name == name) {
                Some(list) => self.resolve_list(export, list),
                // A name is asked for in full, so that one page holds its list; a longer answer proves no absence.
                None if create && page.next.is_none() && !self.export(export).list_conflict => {
                    self.export_mut(export).list_absent = true;
                }
                None => {
                    let until = now.mono.plus_ms(RETRY_HELD_MS);
                    let state = self.export_mut(export);
                    state.list_conflict = false;
                    state.held = Some((HoldReason::ListMissing, until));
                    self.wake_at(until);
                }
            }
        }
    }

    fn on_list_created(&mut self, _now: Now, export: ExportId, outcome: Outcome) {
        // Anything but the list itself: its name is looked for again, which also finds what an unknown outcome made.
        self.export_mut(export).list_call = false;
        match outcome {
            Outcome::Answered(Answer::List(list)) => {
                if self.export(export).moving.is_none() {
                    self.has_no_existing_members(export);
                }
                self.resolve_list(export, &list);
            }
            // Taken, although it was not found: if it is not found again, a person has to look.
            Outcome::Refused(Refusal { disposition: Disposition::Conflict, .. }) => {
                self.export_mut(export).list_conflict = true;
            }
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::NotSent(_) => {}
        }
    }

    fn resolve_list(&mut self, export: ExportId, list: &List) {
        let state = self.export_mut(export);
        if let Some(moving) = &mut state.moving {
            moving.to = Some(list.list_id);
            return;
        }
        state.list = Some(list.list_id);
        state.members_shown = list.membership_count.unwrap_or(0);
        let empty = list.membership_count == Some(0);
        state.record_due = true;
        self.journal.moved = true;
        if empty {
            self.has_no_existing_members(export);
        }
    }

    pub(super) fn on_token_read(&mut self, now: Now, refresh: RefreshId, id: ConnectionId, token: TokenOutcome) {
        let Some(read) = self.token_reads.remove(&refresh) else {
            self.emit(Event::LateAnswer { kind: None });
            return;
        };
        let connection = self.catalog.connection(id);
        let (application, refreshes) = (connection.application, connection.refreshes);
        if let Some(permit) = read.permit {
            let state = self.application_mut(application);
            if token == (TokenOutcome::Unavailable { requested: false }) {
                state.pacer.unused(permit.slot);
                state.quota.refund(permit.charge);
            } else {
                state.pacer.answered(permit.slot, now.mono);
                state.quota.first_call_ended(permit.charge);
                let result = match token {
                    TokenOutcome::Valid { .. } | TokenOutcome::Missing | TokenOutcome::OtherApplication => CallResult::Ok,
                    TokenOutcome::Dead => CallResult::Refused(Disposition::RefreshToken),
                    TokenOutcome::Unavailable { .. } => CallResult::Unknown,
                };
                let took_ms = now.mono.since_ms(read.asked_at);
                let (connection, kind) = (id, crate::model::call::CallKind::Token);
                self.emit(Event::CallEnded { application, connection, export: None, kind, result, took_ms });
            }
        }
        let state = &mut self.connections[usize::from(id.0)];
        let asked = read.permit.is_some();
        let works_until = read.works_until.filter(|until| until.is_none_or(|until| until > now.wall));
        let due_now = |refresh_at: Option<UnixMillis>| refreshes && refresh_at.is_some_and(|at| at <= now.wall);
        match token {
            // The store alone does not help: the token endpoint is asked, which costs a call.
            TokenOutcome::Valid { refresh_at, expires_at } if !asked && due_now(refresh_at) => {
                state.token_at = now.mono;
                state.token = TokenState::Due { rejected: false, works_until: Some(expires_at) };
                return;
            }
            TokenOutcome::Unavailable { .. } if !asked && refreshes => {
                state.token = TokenState::Due { rejected: read.rejected, works_until };
                return;
            }
            // It could not be refreshed in good time: the old one works on, and there is time to try again.
            TokenOutcome::Unavailable { .. } if works_until.is_some() => {
                let refresh_at = Some(now.wall.plus_ms(REFRESH_AGAIN_MS));
                state.token = TokenState::Valid { refresh_at, expires_at: works_until.flatten() };
                return;
            }
            TokenOutcome::Valid { .. }
            | TokenOutcome::Missing
            | TokenOutcome::Dead
            | TokenOutcome::OtherApplication
            | TokenOutcome::Unavailable { .. } => {}
        }
        let bad = |reason: HoldReason, wait_ms: u64| (reason, now.mono.plus_ms(wait_ms));
        let held: Option<(HoldReason, Mono)> = match token {
            TokenOutcome::Valid { .. } => None,
            TokenOutcome::Missing => Some(bad(HoldReason::NoToken, 30_000)),
            TokenOutcome::Dead => Some(bad(HoldReason::TokenDead, 60_000)),
            TokenOutcome::OtherApplication => Some(bad(HoldReason::TokenOfOtherApplication, 60_000)),
            TokenOutcome::Unavailable { .. } => Some(bad(HoldReason::TokenUnavailable, 5_000)),
        };
        let state = self.connection_mut(id);
        state.token = match (token, held) {
            (TokenOutcome::Valid { refresh_at, expires_at }, _) => {
                state.token_at = now.mono;
                let refresh_at = refresh_at.map(|at| at.max(now.wall.plus_ms(REFRESH_AGAIN_MS)));
                TokenState::Valid { refresh_at, expires_at }
            }
            (_, Some((_, again_at))) => TokenState::Bad { again_at },
            (_, None) => TokenState::Unread,
        };
        if held.is_none() {
            self.wait_for_a_person.remove(&Holder::Connection(id));
        }
        let state = self.connection_mut(id);
        if let Some((_, until)) = held {
            state.held = held;
            self.wake_at(until);
        }
    }
}
