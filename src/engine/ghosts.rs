//! Batches that were given up: not found by their names, and yet they may run.
//!
//! Why: absence from a listing proves nothing for good. What was given up is kept for as long as the vendor shows an
//! activity; one that shows up after all makes its contacts unknown again, and what is wanted of them is sent
//! explicitly.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Text,
    activity::Activity,
    batch::BatchName,
    catalog::{ConnectionId, ExportId},
    hash::text_hash,
    state::BatchChunk,
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    activity::{Batch, Stage},
    limits::{ACTIVITY_SHOWN_MS, CREATED_SKEW_MS, GIVEN_UP_ROWS_MAX, count},
    membership::{ContactSlot, Known},
};

/// One that shows up does so soon, if at all: the looks of the first day are as far apart as it is old, at least this
/// and at most an hour, which is about 28 calls; then there is one a day. Any poll that reads a page of the account's
/// activities is a look as well and puts off the next one.
const LOOK_MIN_MS: u64 = 300_000;
const LOOK_FIRST_DAY_MS: u64 = 3_600_000;
const LOOK_MS: u64 = 86_400_000;
/// One that was seen running is looked at this often.
const RUNNING_LOOK_MS: u64 = 60_000;

/// A batch that was given up.
#[derive(Debug)]
pub(super) struct Ghost {
    export: ExportId,
    connection: ConnectionId,
    opened_at: UnixMillis,
    chunks: u32,
    /// Profile and address of each row.
    rows: Vec<(Text, Text)>,
    /// Hashes of the addresses, sorted, once it was seen running: nothing else touches them until it ended.
    fences: Vec<u64>,
    /// Changes that wait for that.
    deferred: Vec<(ExportId, ContactSlot)>,
}

/// All batches that were given up, by name.
pub(super) type Ghosts = BTreeMap<BatchName, Ghost>;

impl Engine {
    /// Contacts, by the hash of their address, that an account's batches which were given up may still make: whom a later
    /// import has put on a list is one already.
    pub(super) fn contacts_given_up(&self, id: ConnectionId) -> BTreeSet<u64> {
        let may_make = |ghost: &Ghost, address: &Text| {
            let members = &self.export(ghost.export).members;
            let slot = members.find_contact(address);
            !slot.is_some_and(|slot| matches!(members.contact(slot).known, Known::On { .. }))
        };
        let ghosts = self.ghosts_of(id).map(|(_, ghost)| ghost);
        let rows = ghosts.flat_map(|ghost| ghost.rows.iter().map(move |(_, address)| (ghost, address)));
        rows.filter(|(ghost, address)| may_make(ghost, address)).map(|(_, address)| text_hash(address)).collect()
    }

    /// A batch was not found: its record stays, as given up.
    pub(super) fn give_up(&mut self, now: Now, batch: &Batch) {
        let mut records = Vec::new();
        self.batch_records(batch, true, &mut records);
        self.journal.ready.extend(records);
        let members = &self.export(batch.export).members;
        let row = |slot: ContactSlot| {
            let contact = members.contact(slot);
            let owner = members.member_if(contact.owner).map(|member| member.profile.clone()).unwrap_or_default();
            (owner, contact.address.clone())
        };
        let rows = batch.rows.iter().map(|row_of| row(row_of.slot)).collect();
        let (export, connection, opened_at, chunks) = (batch.export, batch.connection, batch.opened_at, batch.chunks());
        let ghost = Ghost { export, connection, opened_at, chunks, rows, fences: Vec::new(), deferred: Vec::new() };
        self.ghosts.insert(batch.name.clone(), ghost);
        self.adds_given_up(batch);
        let state = self.connection_mut(connection);
        state.ghosts_at = now.mono.plus_ms(LOOK_MIN_MS);
        // The oldest are the least likely to show up.
        while self.ghosts.values().map(|ghost| ghost.rows.len()).sum::<usize>() > GIVEN_UP_ROWS_MAX {
            let oldest = self.ghosts.iter().min_by_key(|(_, ghost)| ghost.opened_at).map(|(name, _)| name.clone());
            let Some(name) = oldest else { return };
            self.lay(now, &name);
        }
    }

    /// What the state tells of a batch that was given up.
    pub(super) fn restore_ghost(
        &mut self,
        name: BatchName,
        export: ExportId,
        connection: ConnectionId,
        parts: BTreeMap<u32, BatchChunk>,
    ) {
        let chunks = parts.keys().next_back().map_or(0, |last| last + 1);
        let opened_at = parts.values().map(|chunk| chunk.opened_at).min().unwrap_or_default();
        let rows = parts.into_values().flat_map(|chunk| chunk.rows).map(|row| (row.profile, row.address)).collect();
        let ghost = Ghost { export, connection, opened_at, chunks, rows, fences: Vec::new(), deferred: Vec::new() };
        self.ghosts.insert(name, ghost);
    }

    /// Forgets one, and lets go what waited for it.
    fn lay(&mut self, now: Now, name: &BatchName) {
        let Some(ghost) = self.ghosts.remove(name) else { return };
        self.journal.closed.push((name.clone(), ghost.chunks));
        for (export, slot) in ghost.deferred {
            self.decide(now, export, slot);
        }
    }

    fn ghosts_of(&self, id: ConnectionId) -> impl Iterator<Item = (&BatchName, &Ghost)> {
        self.ghosts.iter().filter(move |(_, ghost)| ghost.connection == id)
    }

    /// When a page of an account's activities is read for the sake of those that were given up.
    pub(super) fn ghosts_due(&self, id: ConnectionId) -> Option<Mono> {
        let watched = self.drain.is_none() && self.ghosts_of(id).next().is_some();
        watched.then(|| self.connections[usize::from(id.0)].ghosts_at)
    }

    /// How far back a look for them must page.
    pub(super) fn ghosts_since(&self, id: ConnectionId) -> Option<UnixMillis> {
        self.ghosts_of(id).map(|(_, ghost)| ghost.opened_at).min()
    }

    /// A look is over: when the next one is due, and who need not be watched any longer.
    pub(super) fn ghosts_looked(&mut self, now: Now, id: ConnectionId, complete: bool) {
        let application = self.catalog.connection(id).application;
        let vendor_now = self.vendor_now(application, now);
        if complete && self.applications[usize::from(application.0)].quota.vendor_time(now.mono).is_some() {
            let shown_ms = ACTIVITY_SHOWN_MS + CREATED_SKEW_MS.unsigned_abs();
            let old = self.ghosts_of(id).filter(|(_, ghost)| vendor_now.since_ms(ghost.opened_at) > shown_ms);
            let old: Vec<BatchName> = old.map(|(name, _)| name.clone()).collect();
            old.iter().for_each(|name| self.lay(now, name));
        }
        let youngest_ms = self.ghosts_of(id).map(|(_, ghost)| vendor_now.since_ms(ghost.opened_at)).min();
        let runs = self.ghosts_of(id).any(|(_, ghost)| !ghost.fences.is_empty());
        let wait_ms = match youngest_ms {
            _ if runs || !complete => RUNNING_LOOK_MS,
            Some(age_ms) if age_ms < LOOK_MS => age_ms.clamp(LOOK_MIN_MS, LOOK_FIRST_DAY_MS),
            Some(_) | None => LOOK_MS,
        };
        self.connection_mut(id).ghosts_at = now.mono.plus_ms(wait_ms);
    }

    /// Looks for batches that were given up on a page of an account's activities.
    pub(super) fn watch(&mut self, now: Now, id: ConnectionId, items: &[Activity]) {
        if self.ghosts.is_empty() {
            return;
        }
        for activity in items {
            let Some(name) = activity.source_file_name.as_deref().and_then(|name| name.strip_suffix(".csv")) else { continue };
            let name = BatchName(name.into());
            let Some(ghost) = self.ghosts.get_mut(&name) else { continue };
            let (export, contacts) = (ghost.export, count(ghost.rows.len()));
            if ghost.connection != id {
                continue;
            }
            if activity.state.is_final() {
                self.emit(Event::GhostEnded { name: name.clone(), export, contacts });
                self.haunt(now, &name);
                self.lay(now, &name);
            } else if ghost.fences.is_empty() {
                ghost.fences = ghost.rows.iter().map(|(_, address)| text_hash(address)).collect();
                ghost.fences.sort_unstable();
                self.connection_mut(id).ghosts_at = now.mono.plus_ms(RUNNING_LOOK_MS);
                self.emit(Event::GhostSeen { name, export, contacts });
            }
        }
    }

    /// What a batch that was given up did after all: nothing is known of its contacts, those among them that were
    /// forgotten meanwhile included.
    fn haunt(&mut self, now: Now, name: &BatchName) {
        let Some(ghost) = self.ghosts.get_mut(name) else { return };
        let (export, rows) = (ghost.export, std::mem::take(&mut ghost.rows));
        let since = self.vendor_now(self.export(export).application, now);
        for (profile, address) in rows {
            let members = &mut self.export_mut(export).members;
            let slot = match members.find_contact(&address) {
                Some(slot) => slot,
                None => {
                    let owner = members.find_or_insert(&profile);
                    members.find_or_insert_contact(&address, owner)
                }
            };
            let owner = members.contact(slot).owner;
            if let Some(member) = members.member_if(owner)
                && member.contact != Some(slot)
                && !member.former.contains(&slot)
            {
                members.member_mut(owner).former.push(slot);
            }
            if let Some(place) = members.contact(slot).in_flight {
                // Which of the two ran last is not known either.
                if let Some(batch) = self.batches.get_mut(&place.batch()) {
                    batch.haunted.insert(slot);
                }
                continue;
            }
            members.set_known(slot, Known::Unknown { since });
            self.due(export, owner);
            self.decide(now, export, slot);
        }
    }

    /// The batch that was given up, was seen running and holds an address.
    pub(super) fn ghost_fence(&mut self, id: ConnectionId, hash: u64) -> Option<&mut Vec<(ExportId, ContactSlot)>> {
        let mine = self.ghosts.values_mut().filter(|ghost| ghost.connection == id);
        mine.into_iter().find(|ghost| ghost.fences.binary_search(&hash).is_ok()).map(|ghost| &mut ghost.deferred)
    }

    /// Whether a batch that has not left holds a contact that a given-up one, seen running, may touch.
    pub(super) fn waits_for_ghost(&self, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number).filter(|batch| matches!(batch.stage, Stage::Ready)) else { return false };
        let members = &self.export(batch.export).members;
        self.ghosts_of(batch.connection).filter(|(_, ghost)| !ghost.fences.is_empty()).any(|(_, ghost)| {
            let holds = |slot: ContactSlot| ghost.fences.binary_search(&text_hash(&members.contact(slot).address)).is_ok();
            batch.rows.iter().any(|row| holds(row.slot))
        })
    }

    /// The first import of each connection tells whether the names of files come back.
    pub(super) fn check_name(&mut self, id: ConnectionId, activity: &Activity) {
        let echoed = match (&activity.source_file_name, self.names_echoed(id)) {
            (Some(_), Some(true)) | (None, Some(_)) => return,
            (Some(_), Some(false) | None) => true,
            // The first readings of a fresh activity may lack more than this.
            (None, None) if !activity.state.is_final() => return,
            (None, None) => false,
        };
        self.connection_mut(id).learned.names_echoed = Some(echoed);
        self.connection_due(id);
        if !echoed {
            self.emit(Event::NamesNotEchoed { connection: id });
        }
    }

    /// Whether imports of a connection cannot be found by their names: an ambiguous one is repeated as it was, like a
    /// removal, and every activity without a name is waited for.
    pub(super) fn is_nameless(&self, connection: ConnectionId) -> bool {
        self.names_echoed(connection) == Some(false)
    }

    /// Whether the names of a connection's imports come back, once it is known.
    pub(super) fn names_echoed(&self, connection: ConnectionId) -> Option<bool> {
        self.connections[usize::from(connection.0)].learned.names_echoed
    }
}
