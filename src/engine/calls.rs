//! Calls: which go next, whether they may go now, and what is under way.

use crate::model::{
    call::{CallKind, Cursor, RemovalSource, Request},
    catalog::{ApplicationId, ConnectionId, ExportId, ListRef},
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event, Output,
    activity::Stage,
    event::{HoldReason, Holder},
    limits::LANE_CALLS,
    membership::ContactSlot,
    output::{Call, CallId, ReadToken, RefreshId},
    pacer::Slot,
    quota::NoCall,
    removal::Finding,
};

/// What a call is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// Sends a batch.
    Post(u64),
    /// Reads one batch's activity.
    PollOne(u64),
    /// Reads an account's activities; further pages while some are missing.
    PollAll(ConnectionId),
    /// Looks for a batch's name.
    Look(u64),
    /// Looks for nameless activities that a repeated removal must wait for.
    Clear(u64),
    /// Pages through an export's list.
    Scan(ExportId),
    /// Looks an address up.
    LookUp(ExportId, ContactSlot, u64),
    /// Finds an export's list by name.
    FindList(ExportId),
    /// Creates it.
    CreateList(ExportId),
}

/// A call under way.
#[derive(Debug)]
pub(super) struct CallInFlight {
    pub(super) purpose: Purpose,
    pub(super) kind: CallKind,
    pub(super) application: ApplicationId,
    pub(super) connection: ConnectionId,
    pub(super) slot: Slot,
    pub(super) handed_over: Mono,
}

/// A token look under way.
#[derive(Debug)]
pub(super) struct TokenReadInFlight {
    pub(super) slot: Option<Slot>,
}

/// What is known of a connection's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenState {
    /// Not read in this term.
    Unread,
    /// Being read or refreshed.
    Reading,
    /// Good until it is refreshed.
    Valid { refresh_at: Option<UnixMillis>, expires_at: Option<UnixMillis> },
    /// The vendor rejected it.
    Rejected,
    /// Not usable; looked at again then.
    Bad { again_at: Mono },
}

/// Leave to make one call.
struct Permit {
    slot: Slot,
}

impl Engine {
    /// Ends holds whose time is over.
    pub(super) fn expire(&mut self, now: Now) {
        for application in &mut self.applications {
            application.quota.roll(now.mono);
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
        if now.mono < self.first_call_at {
            self.wake_at(self.first_call_at);
        }
        for connection in self.connection_ids() {
            self.read_token(now, connection);
        }
        let stopping = self.drain.is_some();
        self.follow(now);
        if !stopping {
            self.post_batches(now);
            for export in self.export_ids() {
                self.find_list(now, export);
                self.find_ids(now, export);
            }
        }
    }

    /// Polls and looks: what is already under way at the vendor.
    fn follow(&mut self, now: Now) {
        let numbers: Vec<u64> = self.batches.keys().copied().collect();
        for connection in self.connection_ids() {
            let mine = |engine: &Self, number: &u64| {
                engine.batches.get(number).is_some_and(|batch| engine.export(batch.export).connection == connection)
            };
            let running: Vec<(u64, Mono)> = numbers
                .iter()
                .filter(|number| mine(self, number))
                .filter_map(|number| match self.batches.get(number).map(|batch| &batch.stage) {
                    Some(Stage::Running { next_poll, .. }) => Some((*number, *next_poll)),
                    Some(_) | None => None,
                })
                .collect();
            let due = running.iter().map(|(_, at)| *at).min();
            if let Some(due) = due
                && !self.connections[usize::from(connection.0)].polling
            {
                if due > now.mono {
                    self.wake_at(due);
                } else if let Some(permit) = self.permit(now, connection, 0) {
                    self.connection_mut(connection).polling = true;
                    let alone =
                        if let [(number, _)] = running[..] { self.running_activity(number).map(|id| (number, id)) } else { None };
                    match alone {
                        Some((number, activity_id)) => {
                            self.call(now, connection, permit, Request::Activity { activity_id }, Purpose::PollOne(number));
                        }
                        None => {
                            self.call(now, connection, permit, Request::Activities { cursor: None }, Purpose::PollAll(connection))
                        }
                    }
                }
            }
        }
        for number in numbers {
            let Some(batch) = self.batches.get(&number) else { continue };
            let connection = self.export(batch.export).connection;
            let (next_at, cursor, purpose): (Mono, Option<Cursor>, Purpose) = match &batch.stage {
                Stage::Looking(look) if !look.under_way => (look.next_at, look.cursor.clone(), Purpose::Look(number)),
                Stage::Clearing { next_at, cursor, under_way: false, .. } => (*next_at, cursor.clone(), Purpose::Clear(number)),
                Stage::Looking(_)
                | Stage::Clearing { .. }
                | Stage::Opening
                | Stage::Committing(_)
                | Stage::Ready
                | Stage::Posting
                | Stage::Running { .. }
                | Stage::Ended(_) => continue,
            };
            if next_at > now.mono {
                self.wake_at(next_at);
            } else if let Some(permit) = self.permit(now, connection, 0) {
                match self.batches.get_mut(&number).map(|batch| &mut batch.stage) {
                    Some(Stage::Looking(look)) => look.under_way = true,
                    Some(Stage::Clearing { under_way, .. }) => *under_way = true,
                    Some(_) | None => {}
                }
                self.call(now, connection, permit, Request::Activities { cursor }, purpose);
            }
        }
    }

    fn running_activity(&self, number: u64) -> Option<crate::model::ActivityId> {
        match self.batches.get(&number).map(|batch| &batch.stage) {
            Some(Stage::Running { activity, .. }) => Some(*activity),
            Some(_) | None => None,
        }
    }

    fn post_batches(&mut self, now: Now) {
        let ready: Vec<u64> =
            self.batches.iter().filter(|(_, batch)| matches!(batch.stage, Stage::Ready)).map(|(number, _)| *number).collect();
        for number in ready {
            let Some(batch) = self.batches.get(&number) else { continue };
            let export = batch.export;
            let connection = self.export(export).connection;
            if batch.not_before > now.mono {
                let at = batch.not_before;
                self.wake_at(at);
                continue;
            }
            if self.export(export).held.is_some() {
                continue;
            }
            let Some(permit) = self.permit(now, connection, LANE_CALLS) else { continue };
            let Some(batch) = self.batches.get_mut(&number) else { continue };
            batch.stage = Stage::Posting;
            let request = match &batch.import {
                Some(rows) => Request::Import { name: batch.name.clone(), lists: vec![batch.list], rows: rows.clone() },
                None => Request::Remove { source: RemovalSource::Contacts(batch.ids.clone()), targets: vec![batch.list] },
            };
            self.call(now, connection, permit, request, Purpose::Post(number));
        }
    }

    fn find_list(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        let needed = state.routed && state.list.is_none() && !state.list_call && state.held.is_none();
        let waits = state.imports.live > 0 || state.removals.live() > 0;
        if !needed || !waits {
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
        let (connection, Some(list)) = (state.connection, state.list) else { return };
        match &state.finding {
            Finding::Scanning { cursor, under_way: false, .. } => {
                let cursor = cursor.clone();
                if let Some(permit) = self.permit(now, connection, LANE_CALLS) {
                    if let Finding::Scanning { under_way, .. } = &mut self.export_mut(export).finding {
                        *under_way = true;
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
                    self.put_back_look_up(export, slot, sequence);
                    return;
                };
                let address = self.export(export).members.contact(slot).address.clone();
                if let Finding::LookingUp { under_way, .. } = &mut self.export_mut(export).finding {
                    *under_way = true;
                }
                self.call(now, connection, permit, Request::LookUp { address }, Purpose::LookUp(export, slot, sequence));
            }
            Finding::Idle | Finding::Scanning { .. } | Finding::LookingUp { .. } => {}
        }
    }

    fn read_token(&mut self, now: Now, id: ConnectionId) {
        let connection = self.catalog.connection(id);
        let application = connection.application;
        let used = self.exports.iter().any(|export| export.connection == id && export.routed);
        let rejected = match self.connections[usize::from(id.0)].token {
            TokenState::Unread if used => false,
            TokenState::Rejected => true,
            TokenState::Bad { again_at } if used => {
                if again_at > now.mono {
                    self.wake_at(again_at);
                    return;
                }
                false
            }
            TokenState::Valid { refresh_at: Some(at), .. } if at <= now.wall => false,
            TokenState::Valid { .. } | TokenState::Unread | TokenState::Reading | TokenState::Bad { .. } => return,
        };
        let may_refresh = connection.refreshes;
        let mut slot = None;
        if may_refresh {
            if now.mono < self.first_call_at || !self.leased(now) {
                return;
            }
            match self.take_slot(now, application, 0) {
                Some(taken) => slot = Some(taken),
                None => return,
            }
        }
        self.next_call += 1;
        let refresh = RefreshId(self.next_call);
        self.token_reads.insert(refresh, TokenReadInFlight { slot });
        self.connection_mut(id).token = TokenState::Reading;
        self.outputs.push_back(Output::ReadToken(ReadToken {
            refresh,
            connection: id,
            rejected,
            may_refresh,
            not_after: self.lease_until,
            deadline_ms: self.catalog.timing.request_deadline_ms,
        }));
    }

    /// Whether the last confirmed transaction still lets requests leave; asks for another one in time.
    fn leased(&mut self, now: Now) -> bool {
        self.journal.wants_lease = true;
        // A call that could not leave at once would only come back.
        self.lease_until.since_ms(now.mono) > 100
    }

    fn permit(&mut self, now: Now, id: ConnectionId, lane_calls: u32) -> Option<Permit> {
        let application = self.catalog.connection(id).application;
        let connection = &self.connections[usize::from(id.0)];
        if now.mono < self.first_call_at || connection.held.is_some() || !matches!(connection.token, TokenState::Valid { .. }) {
            return None;
        }
        if self.applications[usize::from(application.0)].held.is_some() || !self.leased(now) {
            return None;
        }
        self.take_slot(now, application, lane_calls).map(|slot| Permit { slot })
    }

    fn take_slot(&mut self, now: Now, application: ApplicationId, lane_calls: u32) -> Option<Slot> {
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
        let lane_calls = lane_calls.min(state.quota.limit().unwrap_or(u32::MAX) / 20);
        match state.quota.charge(now, deadline_ms, lane_calls) {
            Ok(()) => Some(slot),
            Err(reason) => {
                state.pacer.unused(slot);
                match reason {
                    NoCall::NotReserved => self.journal.urgent = true,
                    NoCall::ClockUnknown => {}
                    NoCall::Spent => {
                        let until =
                            state.quota.opens_at(now.mono).unwrap_or(now.mono.plus_ms(60_000)).max(now.mono.plus_ms(1_000));
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

    fn call(&mut self, now: Now, connection: ConnectionId, permit: Permit, request: Request, purpose: Purpose) {
        self.next_call += 1;
        let call = CallId(self.next_call);
        let application = self.catalog.connection(connection).application;
        let kind = request.kind();
        let handed_over = now.mono;
        self.calls.insert(call, CallInFlight { purpose, kind, application, connection, slot: permit.slot, handed_over });
        self.outputs.push_back(Output::Call(Call {
            call,
            connection,
            request,
            not_after: self.lease_until,
            deadline_ms: self.catalog.timing.request_deadline_ms,
        }));
    }

    /// Tells of holds that began or ended.
    pub(super) fn tell(&mut self, now: Now) {
        let mut holds = std::collections::BTreeMap::new();
        for (index, application) in self.applications.iter().enumerate() {
            if let Some((reason, _)) = application.held {
                holds.insert(Holder::Application(ApplicationId(u16::try_from(index).unwrap_or(u16::MAX))), reason);
            }
        }
        for id in self.connection_ids() {
            if let Some((reason, _)) = self.connections[usize::from(id.0)].held {
                holds.insert(Holder::Connection(id), reason);
            }
        }
        for id in self.export_ids() {
            if let Some(reason) = self.export_hold(id) {
                holds.insert(Holder::Export(id), reason);
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
                    Holder::Connection(id) => self.connections[usize::from(id.0)].held.map(|(_, until)| until),
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
        if self.catalog.connection(export.connection).consent.is_none() {
            return Some(HoldReason::NoConsent);
        }
        if !export.starts_at_once {
            return Some(HoldReason::NotStarted);
        }
        self.export(id).held.map(|(reason, _)| reason)
    }
}
