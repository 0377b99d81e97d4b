//! Calls: which go next, whether they may go now, and what is under way.

use crate::model::{
    call::{CallKind, Cursor, RemovalSource, Request},
    catalog::{ApplicationId, ConnectionId, ExportId, ListRef},
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event, Output,
    activity::{Batch, Stage},
    limits::LANE_CALLS,
    membership::ContactSlot,
    output::{Call, CallId, ReadToken, RefreshId},
    pacer::Slot,
    planted::{Bug, planted},
    quota::{Charge, NoCall},
    reason::{HoldReason, Holder},
    removal::Finding,
    staging::PoolCall,
};

/// What a call is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// Sends a batch.
    Post(u64),
    /// Reads one batch's activity.
    PollOne(u64),
    /// Reads a page of an account's activities: the next page is read while some are missing.
    PollAll(ConnectionId, u32),
    /// Looks for a batch's name.
    Look(u64),
    /// Looks for nameless activities that a repeated removal must wait for.
    Clear(u64),
    /// Pages through an export's list.
    Scan(ExportId),
    /// Looks an address up.
    LookUp(ExportId, ContactSlot, u64),
    /// Looks a contact up that is to be deleted.
    LookUpErased(ExportId, ContactSlot, u64),
    /// Reads a page of the contacts that imports must never touch.
    Suppressed(ConnectionId),
    /// Looks up a suppressed contact that is wanted.
    LookUpSuppressed(ConnectionId, crate::model::Text),
    /// Finds an export's list by name.
    FindList(ExportId),
    /// Creates it.
    CreateList(ExportId),
    /// Pages through the members that an export's list had before.
    ReadExisting(ExportId),
    /// Makes, counts or deletes staging lists.
    Pool(ConnectionId, PoolCall),
    /// Looks whether a round's contacts have left.
    Check(u64),
    /// Counts an account's contacts.
    CountContacts(ConnectionId),
}

/// A call under way.
#[derive(Debug)]
pub(super) struct CallInFlight {
    pub(super) purpose: Purpose,
    pub(super) kind: CallKind,
    pub(super) application: ApplicationId,
    pub(super) connection: ConnectionId,
    pub(super) permit: Permit,
    pub(super) handed_over: Mono,
}

/// A token look under way.
#[derive(Debug)]
pub(super) struct TokenReadInFlight {
    /// Leave to ask the token endpoint, where it may be asked.
    pub(super) permit: Option<Permit>,
    pub(super) rejected: bool,
    pub(super) asked_at: Mono,
    /// When the token ends that works until this look has an answer.
    pub(super) works_until: Option<Option<UnixMillis>>,
}

/// How far a round of polls of an account's activities has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Polling {
    /// None is under way.
    Idle,
    /// A call is.
    UnderWay,
    /// The page behind the cursor is to be read, as the page of this number.
    NextPage(Cursor, u32),
}

/// What is known of a connection's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenState {
    /// Not read in this term.
    Unread,
    /// The store alone does not help: the token endpoint is to be asked.
    Due { rejected: bool, works_until: Option<Option<UnixMillis>> },
    /// Being read or refreshed; a refresh in good time leaves the old one at work.
    Reading { works_until: Option<Option<UnixMillis>> },
    /// Good until it is refreshed.
    Valid { refresh_at: Option<UnixMillis>, expires_at: Option<UnixMillis> },
    /// The vendor rejected it.
    Rejected,
    /// Not usable; looked at again then.
    Bad { again_at: Mono },
}

impl TokenState {
    /// Whether calls may be made with it now.
    fn works(self, now: Now) -> bool {
        match self {
            Self::Valid { .. } => true,
            Self::Due { works_until, .. } | Self::Reading { works_until } => {
                works_until.is_some_and(|until| until.is_none_or(|until| until > now.wall))
            }
            Self::Unread | Self::Rejected | Self::Bad { .. } => false,
        }
    }
}

/// Leave to make one call: a slot of the second, and a call of the day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permit {
    pub(super) slot: Slot,
    pub(super) charge: Charge,
}

/// What a permit is for.
#[derive(Debug, Clone, Copy)]
enum Charged {
    /// A request to the token endpoint.
    Token,
    /// A call that leaves so many of a day's calls to others.
    Call { lane_calls: u32 },
}

impl Engine {
    /// Ends holds whose time is over.
    pub(super) fn expire(&mut self, now: Now) {
        for application in &mut self.applications {
            application.quota.roll(now.mono);
            let clock = application.quota.vendor_time(now.mono).map(|(earliest, _)| (earliest, now.mono));
            application.hour_clock = application.hour_clock.or(clock);
            if let Some((reason, until)) = application.held
                && until <= now.mono
            {
                application.held = None;
                if reason == HoldReason::QuotaSpentByOthers {
                    application.quota.allow_probe();
                }
            }
        }
        for connection in &mut self.connections {
            if connection.held.is_some_and(|(_, until)| until <= now.mono) {
                connection.held = None;
            }
        }
        for export in &mut self.exports {
            if export.held.is_some_and(|(_, until)| until <= now.mono) {
                export.held = None;
            }
        }
        let holds = self.applications.iter().filter_map(|application| application.held);
        let holds = holds.chain(self.connections.iter().filter_map(|connection| connection.held));
        let soonest = holds.chain(self.exports.iter().filter_map(|export| export.held)).map(|(_, until)| until).min();
        if let Some(at) = soonest {
            self.wake_at(at);
        }
    }

    /// Makes every call that is due and may go.
    pub(super) fn make_calls(&mut self, now: Now) {
        // The last transaction says that nothing of this term is under way: the next owner need not wait.
        if self.drain.is_some_and(|drain| drain.done) {
            return;
        }
        if now.mono < self.first_call_at {
            self.wake_at(self.first_call_at);
        }
        for connection in self.connection_ids() {
            self.read_token(now, connection);
        }
        let stopping = self.drain.is_some();
        self.follow(now);
        self.check_rounds(now);
        if !stopping {
            self.post_batches(now);
            self.read_suppressed(now);
            self.count_contacts(now);
            for export in self.export_ids() {
                self.find_list(now, export);
                self.read_existing(now, export);
                self.find_ids(now, export);
                self.look_up_erased(now, export);
            }
            self.keep_pools(now);
        }
    }

    fn post_batches(&mut self, now: Now) {
        let ready: Vec<u64> =
            self.batches.iter().filter(|(_, batch)| matches!(batch.stage, Stage::Ready)).map(|(number, _)| *number).collect();
        for number in ready {
            let Some(batch) = self.batches.get(&number) else { continue };
            let (export, connection) = (batch.export, batch.connection);
            if batch.not_before > now.mono {
                let at = batch.not_before;
                self.wake_at(at);
                continue;
            }
            // These two keep batches from being cut: one that was cut is counted already.
            let cut_anyway = [HoldReason::ProfilesPerHour, HoldReason::QuotaSpent];
            let held = self.export(export).held.is_some_and(|(reason, _)| !cut_anyway.contains(&reason));
            if held {
                continue;
            }
            if self.takes_back_held(number) {
                self.wake_at(now.mono);
                continue;
            }
            if !self.may_begin(now, connection) {
                continue;
            }
            if !self.ghosts.is_empty() && self.waits_for_ghost(number) {
                continue;
            }
            let Some(batch) = self.batches.get(&number) else { continue };
            if batch.import.is_some() {
                if !self.may_import(now, export) {
                    continue;
                }
                if self.takes_back(now, number) {
                    self.wake_at(now.mono);
                    continue;
                }
            }
            if !self.round_may_leave(now, number) || !self.hour_has_room(now, number) {
                continue;
            }
            let Some(permit) = self.permit(now, connection, LANE_CALLS) else { continue };
            self.count_rows(now, number);
            let Some(batch) = self.batches.get(&number) else { continue };
            let request = match (&batch.import, &batch.round) {
                (_, Some(round)) => self.round_request(batch, round),
                (Some(rows), None) => Request::Import { name: batch.name.clone(), lists: vec![batch.list], rows: rows.clone() },
                (None, None) if batch.deletes => Request::DeleteContacts { contacts: batch.ids.clone() },
                (None, None) => Request::Remove { source: RemovalSource::Contacts(batch.ids.clone()), targets: vec![batch.list] },
            };
            self.round_leaves(number);
            if let Some(batch) = self.batches.get_mut(&number) {
                batch.stage = Stage::Posting;
            }
            self.call(now, connection, permit, request, Purpose::Post(number));
        }
    }

    /// Whether an activity may be begun in an account now. Where its queue was full the last time, one alone tries.
    fn may_begin(&mut self, now: Now, id: ConnectionId) -> bool {
        let account = &self.connections[usize::from(id.0)];
        if let Some(until) = account.full_queue.until(now.mono) {
            self.wake_at(until);
            return false;
        }
        let tries = |batch: &Batch| batch.connection == id && matches!(batch.stage, Stage::Posting);
        account.held.is_none() && !(account.full_queue.is_in_doubt() && self.batches.values().any(tries))
    }

    fn find_list(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        let needed = self.sends(export) && self.seeks_list(export) && !state.list_call && state.held.is_none();
        let moves = state.moving.is_some() && self.operator_hold(export).is_none();
        if !needed || !(self.may_go(export) > 0 || moves || self.has_to_adopt(export)) {
            return;
        }
        let connection = state.connection;
        let ListRef::Named { name, .. } = self.catalog.export(export).list.clone() else { return };
        let absent = state.list_absent;
        if let Some(permit) = self.permit(now, connection, LANE_CALLS) {
            let state = self.export_mut(export);
            state.list_call = true;
            // Whatever becomes of a creation, the name is looked for before another one.
            state.list_absent = false;
            if absent {
                self.call(now, connection, permit, Request::CreateList { name }, Purpose::CreateList(export));
            } else {
                self.call(now, connection, permit, Request::FindList { name }, Purpose::FindList(export));
            }
        }
    }

    fn find_ids(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        if state.held.is_some() {
            return;
        }
        let (connection, Some(list)) = (state.connection, state.list) else { return };
        match &state.finding {
            Finding::Scanning { cursor, under_way: false, .. } => {
                let cursor = cursor.clone();
                let first = cursor.is_none();
                if let Some(permit) = self.permit(now, connection, LANE_CALLS) {
                    if let Finding::Scanning { under_way, began, .. } = &mut self.export_mut(export).finding {
                        *under_way = true;
                        if first {
                            *began = now.mono;
                        }
                    }
                    self.call(now, connection, permit, Request::ListMembers { list, cursor }, Purpose::Scan(export));
                }
            }
            Finding::LookingUp { under_way: false, .. } => {
                let Some((slot, sequence)) = self.next_look_up(export) else {
                    self.end_looking_up(now, export);
                    return;
                };
                let Some(permit) = self.permit(now, connection, LANE_CALLS) else {
                    self.put_back(export, slot, sequence);
                    return;
                };
                let address = self.export(export).members.contact(slot).address.clone();
                if let Finding::LookingUp { under_way, .. } = &mut self.export_mut(export).finding {
                    *under_way = true;
                }
                self.call(now, connection, permit, Request::LookUp { address }, Purpose::LookUp(export, slot, sequence));
            }
            Finding::Idle | Finding::Scanning { .. } | Finding::LookingUp { .. } | Finding::Staging { .. } => {}
        }
    }

    /// Looks for a token when one is needed. First the store alone, which costs nothing; the token endpoint is asked
    /// where that does not help. Such a request counts as a call of the day and of the second: it is not documented
    /// whether the vendor counts it, and counting it breaks no promise.
    fn read_token(&mut self, now: Now, id: ConnectionId) {
        let connection = self.catalog.connection(id);
        let application = connection.application;
        let state = &self.connections[usize::from(id.0)];
        let used = state.used;
        let (rejected, ask, works_until) = match state.token {
            TokenState::Unread if used => (false, false, None),
            TokenState::Rejected => (true, false, None),
            TokenState::Due { rejected, works_until } => (rejected, true, works_until),
            TokenState::Bad { again_at } if used => {
                if again_at > now.mono {
                    self.wake_at(again_at);
                    return;
                }
                (false, false, None)
            }
            TokenState::Valid { refresh_at: Some(at), expires_at } if at <= now.wall => (false, false, Some(expires_at)),
            TokenState::Valid { .. } | TokenState::Unread | TokenState::Reading { .. } | TokenState::Bad { .. } => return,
        };
        let mut permit = None;
        if ask {
            let held = self.applications[usize::from(application.0)].held.is_some();
            if held || now.mono < self.first_call_at || !self.leased(now) {
                return;
            }
            permit = self.take_permit(now, application, Charged::Token);
            if permit.is_none() {
                return;
            }
        }
        self.next_call += 1;
        let refresh = RefreshId(self.next_call);
        self.token_reads.insert(refresh, TokenReadInFlight { permit, rejected, asked_at: now.mono, works_until });
        self.connection_mut(id).token = TokenState::Reading { works_until };
        self.outputs.push_back(Output::ReadToken(ReadToken {
            refresh,
            connection: id,
            rejected,
            may_refresh: ask,
            not_after: self.lease_until,
            deadline_ms: self.catalog.timing.request_deadline_ms,
        }));
    }

    /// Whether the last confirmed transaction still lets requests leave; asks for another one in time.
    fn leased(&mut self, now: Now) -> bool {
        self.journal.wants_lease = true;
        if planted(Bug::LeaseForgotten) {
            return true;
        }
        // A call that could not leave at once would only come back.
        self.lease_until.since_ms(now.mono) > 100
    }

    pub(super) fn permit(&mut self, now: Now, id: ConnectionId, lane_calls: u32) -> Option<Permit> {
        let application = self.catalog.connection(id).application;
        let connection = &self.connections[usize::from(id.0)];
        if now.mono < self.first_call_at || connection.held.is_some() || !connection.token.works(now) {
            return None;
        }
        if self.applications[usize::from(application.0)].held.is_some() || !self.leased(now) {
            return None;
        }
        self.take_permit(now, application, Charged::Call { lane_calls })
    }

    fn take_permit(&mut self, now: Now, application: ApplicationId, what: Charged) -> Option<Permit> {
        let deadline_ms = self.catalog.timing.request_deadline_ms;
        let state = self.application_mut(application);
        let slot = match state.pacer.take(now.mono) {
            Ok(slot) => slot,
            Err(at) => {
                if let Some(at) = at {
                    self.wake_at(at);
                }
                return None;
            }
        };
        let (charge, lane_calls) = match what {
            Charged::Token => (state.quota.charge_token(now, deadline_ms), 0),
            Charged::Call { lane_calls } => {
                let lane_calls = state.quota.lane(now.mono, lane_calls);
                (state.quota.charge(now, deadline_ms, lane_calls), lane_calls)
            }
        };
        match charge {
            Ok(charge) => Some(Permit { slot, charge }),
            Err(reason) => {
                state.pacer.unused(slot);
                match reason {
                    NoCall::NotReserved => self.journal.urgent = true,
                    NoCall::ClockUnknown => {}
                    // The probe that is under way tells.
                    NoCall::Spent if state.quota.is_denied() => {}
                    NoCall::Spent => {
                        let until = state.quota.opens_at(now.mono).unwrap_or(now.mono.plus_ms(60_000));
                        let until = until.max(now.mono.plus_ms(1_000));
                        if lane_calls == 0 {
                            state.held = Some((HoldReason::QuotaSpent, until));
                        }
                        self.wake_at(until);
                    }
                }
                None
            }
        }
    }

    pub(super) fn call(&mut self, now: Now, connection: ConnectionId, permit: Permit, request: Request, purpose: Purpose) {
        self.next_call += 1;
        let call = CallId(self.next_call);
        let application = self.catalog.connection(connection).application;
        let kind = request.kind();
        let overhead = &mut self.application_mut(application).overhead;
        overhead.make();
        if matches!(kind, CallKind::Import | CallKind::Remove | CallKind::LookUp | CallKind::Scan) {
            overhead.plan(1.0);
        }
        let handed_over = now.mono;
        self.calls.insert(call, CallInFlight { purpose, kind, application, connection, permit, handed_over });
        self.outputs.push_back(Output::Call(Call {
            call,
            connection,
            request,
            not_after: if planted(Bug::LeaseForgotten) { Mono(u64::MAX) } else { self.lease_until },
            deadline_ms: self.catalog.timing.request_deadline_ms,
        }));
    }

    /// Tells of holds that began or ended.
    pub(super) fn tell(&mut self, now: Now) {
        let mut holds = std::collections::BTreeMap::new();
        for (index, application) in self.applications.iter().enumerate() {
            if let Some((reason, _)) = application.held {
                holds.insert(Holder::Application(ApplicationId::at(index)), reason);
            }
        }
        // A hold with a time is tried again by itself: who needs a person for it waits on until a call has gone well.
        let needs_a_person = |held: Option<(HoldReason, Mono)>| held.is_some_and(|(reason, _)| reason.needs_a_person());
        for id in self.connection_ids() {
            let who = Holder::Connection(id);
            if let Some((reason, _)) = self.connections[usize::from(id.0)].hold(now.mono) {
                holds.insert(who, reason);
            }
            if needs_a_person(self.connections[usize::from(id.0)].held) {
                self.wait_for_a_person.insert(who);
            }
        }
        for id in self.export_ids() {
            let who = Holder::Export(id);
            if let Some(reason) = self.export_hold(id) {
                holds.insert(who, reason);
            }
            if needs_a_person(self.export(id).held) {
                self.wait_for_a_person.insert(who);
            }
        }
        let before = std::mem::take(&mut self.holds);
        for (who, reason) in &before {
            if holds.get(who) != Some(reason) {
                self.emit(Event::Released { who: *who, reason: *reason });
            }
        }
        for (who, reason) in &holds {
            if before.get(who) != Some(reason) {
                let until = match who {
                    Holder::Application(id) => self.applications[usize::from(id.0)].held.map(|(_, until)| until),
                    Holder::Connection(id) => self.connections[usize::from(id.0)].hold(now.mono).map(|(_, until)| until),
                    Holder::Export(id) => self.export(*id).held.map(|(_, until)| until),
                    Holder::Shard => None,
                };
                let until = until.map(|at| now.wall.plus_ms(i64::try_from(at.since_ms(now.mono)).unwrap_or(i64::MAX)));
                self.emit(Event::Held { who: *who, reason: *reason, until });
            }
        }
        self.holds = holds;
    }

    /// Why an export is held, by itself or because it may not run at all.
    pub(super) fn export_hold(&self, id: ExportId) -> Option<HoldReason> {
        let export = self.catalog.export(id);
        // Nothing of a removed export waits but for an erasure.
        if self.export(id).removed && self.waiting_of(id) == 0 {
            return None;
        }
        if self.catalog.connection(export.connection).consent.is_none() {
            return Some(HoldReason::NoConsent);
        }
        if let Some(reason) = self.operator_hold(id) {
            return Some(reason);
        }
        let state = self.export(id);
        let unread = state.list.is_some() && self.waiting_of(id) > 0 && !state.existing.is_read();
        let unread = unread.then_some(HoldReason::ListUnread);
        let held = self.export(id).held.map(|(reason, _)| reason);
        let braked = state.brake.braked.map(|_| HoldReason::RemovalBrake);
        self.routing_hold(id)
            .or(braked)
            .or(held)
            .or(unread)
            .or_else(|| self.suppression_hold(id))
            .or_else(|| self.contract_hold(id))
    }
}
