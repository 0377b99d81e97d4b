//! Whom an import must never touch: contacts of an account that were deleted or have unsubscribed.
//!
//! Why: an import may revive a deleted contact, or lift an opt-out; the vendor documents neither. So all of them are
//! read, as hashes of their addresses, before the first import of a connection, and again by what changed since while
//! imports are being sent. What remains are the minutes between the last look and the import: at most
//! [`SUPPRESSION_FRESH_MS`] and the time that a request takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Text,
    call::{Answer, ContactStatus, Cursor, Outcome, Page, Request},
    catalog::{ApplicationId, ConnectionId, ExportId},
    hash::text_hash,
    state::{StateChange, StateKey, StateValue, SuppressedBucket},
    time::{Mono, Now, UnixMillis},
};

use super::{
    Engine, Event,
    activity::{Ending, Stage},
    answers::is_stale,
    calls::Purpose,
    limits::{
        LANE_CALLS, STAGING_FRESH_MS, SUPPRESSED_MAX, SUPPRESSION_ACCOUNT_MS, SUPPRESSION_FRESH_MAX_MS, SUPPRESSION_FRESH_MS,
        SUPPRESSION_LOOK_UP_MS, SUPPRESSION_OVERLAP_MS, WALL_SKEW_MS, count,
    },
    membership::{ContactSlot, Known},
    planted::{Bug, planted},
    reason::HoldReason,
};

/// A reading under way: page after page.
#[derive(Debug)]
struct Reading {
    updated_after: Option<UnixMillis>,
    cursor: Option<Cursor>,
    under_way: bool,
    /// When its first page was asked for: by the vendor's clock, and by ours.
    began: Option<(UnixMillis, Mono)>,
}

/// The suppressed contacts of one connection.
#[derive(Debug, Default)]
pub(super) struct Suppression {
    /// Hash of the address, and when the vendor showed it as suppressed last, by its clock.
    shown_at: BTreeMap<u64, UnixMillis>,
    /// Contacts that were found to be among them.
    found: u64,
    /// Parts whose record is due.
    dirty: BTreeSet<u8>,
    /// When the last complete reading began, of this term or an earlier one, by the vendor's clock.
    last_read_at: Option<UnixMillis>,
    reading: Option<Reading>,
    /// Complete readings of this term.
    completed: u64,
    /// A complete reading of this term serves imports that leave before this instant. Not by the wall clock: a term
    /// that begins reads on first.
    fresh_until: Mono,
    /// When the last complete reading of this term began.
    read_at: Option<Mono>,
    /// What the state says of when they were read: what was read since is written when a reading is complete.
    written_read_at: Option<UnixMillis>,
    /// Imports wait for a fresh reading.
    needed: bool,
    /// An activity told of contacts that cannot join: read on, however fresh the set is.
    asked: bool,
    /// The account has more of them than are kept.
    full: bool,
    looking_up: bool,
}

/// What is known of the contacts that must not be imported: while it is the same, a batch need not be looked through again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    suppressed: u64,
    erased: u64,
}

const fn bucket_of(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

const fn hashes_of(bucket: u8) -> std::ops::RangeInclusive<u64> {
    let first = (bucket as u64) << 56;
    first..=first | (u64::MAX >> 8)
}

impl Suppression {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.shown_at.len()
    }

    /// When the vendor showed an address as suppressed last; `None` when it may be imported.
    fn shown_at(&self, address: &str) -> Option<UnixMillis> {
        self.shown_at.get(&text_hash(address)).copied()
    }

    /// True when it was not among them.
    fn insert(&mut self, hash: u64, at: UnixMillis) -> bool {
        self.dirty.insert(bucket_of(hash));
        let fresh = self.shown_at.insert(hash, at).is_none();
        self.found += u64::from(fresh);
        fresh
    }

    /// We had a contact deleted.
    pub(super) fn deleted(&mut self, address: &str, at: UnixMillis) {
        self.insert(text_hash(address), at);
    }

    /// More may be suppressed than was read: imports wait for another reading.
    pub(super) const fn outdate(&mut self) {
        self.fresh_until = Mono(0);
        self.read_at = None;
    }

    /// What the state says of one part.
    pub(super) fn restore(&mut self, bucket: u8, record: SuppressedBucket) {
        let old: Vec<u64> = self.shown_at.range(hashes_of(bucket)).map(|(hash, _)| *hash).collect();
        for hash in old {
            self.shown_at.remove(&hash);
        }
        self.shown_at.extend(record.contacts.into_iter().filter(|(hash, _)| bucket_of(*hash) == bucket));
    }

    /// What the state says of when they were read.
    pub(super) fn restore_read_at(&mut self, read_at: Option<UnixMillis>) {
        (self.last_read_at, self.written_read_at) = (read_at, read_at);
    }

    /// When they were read, as far as what was read then is written.
    pub(super) const fn written_read_at(&self) -> Option<UnixMillis> {
        self.written_read_at
    }

    /// Whether a reading is complete and not written, because the next one is under way.
    pub(super) fn is_read_unwritten(&self) -> bool {
        self.written_read_at != self.last_read_at
    }

    /// Whether what an activity told of is explained as far as it can be, after the reading of this number.
    pub(super) fn has_read(&self, number: u64) -> bool {
        self.completed >= number || self.full
    }

    fn is_fresh_for_staging(&self, now: Now) -> bool {
        !self.full && self.read_at.is_some_and(|at| now.mono < at.plus_ms(STAGING_FRESH_MS))
    }

    /// Asks for a reading, as an import does that waits for one.
    pub(super) const fn need(&mut self) {
        self.needed = true;
    }

    /// Asks for a reading that begins after now; its number.
    pub(super) fn ask(&mut self) -> u64 {
        self.asked = true;
        self.completed + 1 + u64::from(self.reading.is_some())
    }

    /// Why no import goes, if the set itself is the reason.
    pub(super) const fn hold(&self) -> Option<HoldReason> {
        match self.last_read_at {
            _ if self.full => Some(HoldReason::SuppressedMax),
            None => Some(HoldReason::SuppressionUnread),
            Some(_) => None,
        }
    }

    /// Appends the records that are due.
    pub(super) fn records(&mut self, connection: &Text, changes: &mut Vec<StateChange>) {
        // A reading is written once it is complete: each of its pages would write nearly every part again.
        if self.reading.is_none() {
            for bucket in std::mem::take(&mut self.dirty) {
                let contacts: Vec<_> = self.shown_at.range(hashes_of(bucket)).map(|(hash, at)| (*hash, *at)).collect();
                let value = (!contacts.is_empty()).then_some(StateValue::Suppressed(SuppressedBucket { contacts }));
                changes.push(StateChange { key: StateKey::Suppressed { connection: connection.clone(), bucket }, value });
            }
            self.written_read_at = self.last_read_at;
        }
    }
}

/// Adds of an export that wait because their contact is suppressed: settled, kept, and looked up at most once a week.
#[derive(Debug, Default)]
pub(super) struct SuppressedAdds {
    /// How many.
    pub(super) live: usize,
    /// When each is looked up, by the vendor's clock. Entries are dropped late.
    due: BTreeSet<(UnixMillis, u64, ContactSlot)>,
    /// Refused since it was told last.
    pub(super) untold: u32,
}

impl SuppressedAdds {
    /// One more.
    pub(super) fn push(&mut self, slot: ContactSlot, sequence: u64, shown_at: UnixMillis) {
        self.live += 1;
        self.due.insert((look_up_at(shown_at), sequence, slot));
    }

    /// One less.
    pub(super) const fn dropped(&mut self) {
        self.live -= 1;
    }
}

const fn look_up_at(shown_at: UnixMillis) -> UnixMillis {
    shown_at.plus_ms(SUPPRESSION_LOOK_UP_MS)
}

impl Engine {
    fn suppression(&self, export: ExportId) -> &Suppression {
        &self.connections[usize::from(self.export(export).connection.0)].suppression
    }

    /// When the vendor showed a contact as suppressed last.
    pub(super) fn suppressed_at(&self, export: ExportId, slot: ContactSlot) -> Option<UnixMillis> {
        if planted(Bug::SuppressedImported) {
            return None;
        }
        self.suppression(export).shown_at(&self.export(export).members.contact(slot).address)
    }

    /// Whether the vendor showed a contact as deleted or unsubscribed since we put it on the list: it is on none any more.
    /// While some import of ours in the account may have revived it since, with its lists, that is not certain.
    pub(super) fn left_by_itself(&self, export: ExportId, slot: ContactSlot) -> bool {
        if planted(Bug::SuppressedStaged) || self.export(export).members.contact(slot).known == Known::Off {
            return false;
        }
        let Some(shown_at) = self.suppressed_at(export, slot) else { return false };
        let address = &self.export(export).members.contact(slot).address;
        let connection = self.export(export).connection;
        // The vendor's index is late.
        let lag_ms = i64::try_from(self.catalog.timing.index_lag_ms).unwrap_or(i64::MAX);
        let revives = |other: &ExportId| {
            let members = &self.export(*other).members;
            let Some(slot) = members.find_contact(address) else { return false };
            let contact = members.contact(slot);
            let imported_at = match contact.known {
                Known::On { at, .. } => Some(at),
                Known::Unknown { since } => Some(since),
                Known::Off => None,
            };
            contact.in_flight.is_some() || imported_at.is_some_and(|at| shown_at <= at.plus_ms(lag_ms))
        };
        !self.export_ids().any(|other| self.export(other).connection == connection && revives(&other))
    }

    /// Whether an import of an export may leave now; asks for a reading where it may not.
    pub(super) fn may_import(&mut self, now: Now, export: ExportId) -> bool {
        let connection = self.export(export).connection;
        let suppression = &mut self.connection_mut(connection).suppression;
        let fresh = suppression.last_read_at.is_some() && now.mono < suppression.fresh_until && !suppression.full;
        suppression.needed |= !fresh;
        self.has_counted(connection) && fresh
    }

    /// What is known now of the contacts of an export's connection that must not be imported.
    pub(super) fn suppression_seen(&self, export: ExportId) -> Seen {
        Seen { suppressed: self.suppression(export).found, erased: self.erasures }
    }

    /// Whether a round's import may leave now; asks for a reading where it may not.
    pub(super) fn may_stage(&mut self, now: Now, export: ExportId) -> bool {
        let connection = self.export(export).connection;
        let suppression = &mut self.connection_mut(connection).suppression;
        let fresh = suppression.is_fresh_for_staging(now);
        suppression.needed |= !fresh;
        self.has_counted(connection) && fresh
    }

    /// Whether a round must wait for a reading first, for what it costs.
    pub(super) fn reads_before_staging(&self, now: Now, export: ExportId) -> bool {
        !self.suppression(export).is_fresh_for_staging(now)
    }

    /// Whether the account has more suppressed contacts than are kept: nothing is imported then.
    pub(super) fn suppression_is_full(&self, export: ExportId) -> bool {
        self.suppression(export).full
    }

    /// A batch that was cut and has not left: whom it would touch may have opted out meanwhile. True when it goes back.
    pub(super) fn takes_back(&mut self, now: Now, number: u64) -> bool {
        let Some(batch) = self.batches.get(&number).filter(|batch| batch.import.is_some()) else { return false };
        let seen = self.suppression_seen(batch.export);
        if batch.seen == Some(seen) {
            return false;
        }
        let touches = batch.rows.iter().any(|row| self.suppressed_at(batch.export, row.slot).is_some());
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.seen = Some(seen);
        }
        match self.batches.get_mut(&number).filter(|_| touches) {
            // An earlier attempt may run: it is waited for, without a repeat.
            Some(batch) if batch.repeated => batch.stage = Stage::clearing(now.mono, false),
            Some(_) => self.end(number, Ending::NotDone),
            None => {}
        }
        touches
    }

    /// Reads on where imports wait for it, and looks up who is still wanted after a week.
    pub(super) fn read_suppressed(&mut self, now: Now) {
        for id in self.connection_ids() {
            let suppression = &mut self.connection_mut(id).suppression;
            let needed = std::mem::take(&mut suppression.needed) || suppression.asked;
            if needed && suppression.reading.is_none() && !suppression.full {
                suppression.asked = false;
                let updated_after = suppression.last_read_at.map(|at| at.plus_ms(-SUPPRESSION_OVERLAP_MS));
                suppression.reading = Some(Reading { updated_after, cursor: None, under_way: false, began: None });
            }
            let Some(Reading { under_way: false, updated_after, cursor, .. }) = &suppression.reading else { continue };
            let request = Request::Suppressed { updated_after: *updated_after, cursor: cursor.clone() };
            let Some(permit) = self.permit(now, id, LANE_CALLS) else { continue };
            if let Some(reading) = &mut self.connection_mut(id).suppression.reading {
                reading.under_way = true;
            }
            self.call(now, id, permit, request, Purpose::Suppressed(id));
        }
        for export in self.export_ids() {
            self.look_up_suppressed(now, export);
        }
    }

    /// A page of suppressed contacts.
    pub(super) fn on_suppressed(&mut self, now: Now, id: ConnectionId, asked_at: Mono, outcome: Outcome) {
        let application = self.catalog.connection(id).application;
        let stale = is_stale(&outcome);
        let knows_clock = self.applications[usize::from(application.0)].quota.vendor_time(now.mono).is_some();
        let ago_ms = i64::try_from(now.mono.since_ms(asked_at)).unwrap_or(i64::MAX);
        let skew_ms = if knows_clock { 0 } else { WALL_SKEW_MS };
        let at = self.vendor_now(application, now).plus_ms(-ago_ms).plus_ms(-skew_ms);
        let fresh_ms = self.suppression_fresh_ms(application);
        let suppression = &mut self.connection_mut(id).suppression;
        let Some(reading) = &mut suppression.reading else { return };
        reading.under_way = false;
        let Outcome::Answered(Answer::Contacts(page)) = outcome else {
            if stale {
                (reading.cursor, reading.began) = (None, None);
            }
            return;
        };
        let (at, asked_at) = *reading.began.get_or_insert((at, asked_at));
        let last = page.next.is_none();
        reading.cursor = page.next;
        let mut fresh: Vec<Text> = page
            .items
            .into_iter()
            .filter(|contact| contact.status != ContactStatus::Active)
            .map(|contact| contact.address)
            .collect();
        fresh.retain(|address| suppression.insert(text_hash(address), at));
        if suppression.len() > SUPPRESSED_MAX {
            suppression.full = true;
            suppression.reading = None;
            suppression.dirty.clear();
        } else if last {
            suppression.reading = None;
            suppression.completed += 1;
            suppression.fresh_until = asked_at.plus_ms(fresh_ms);
            suppression.read_at = Some(asked_at);
            suppression.last_read_at = Some(at);
            self.connection_due(id);
        }
        for address in fresh {
            self.decide_everywhere(now, id, &address);
        }
    }

    /// For how long a reading serves imports: longer where many accounts share the calls of a key.
    fn suppression_fresh_ms(&self, application: ApplicationId) -> u64 {
        let accounts = self.catalog.connections.iter().filter(|connection| connection.application == application).count();
        (accounts as u64 * SUPPRESSION_ACCOUNT_MS).clamp(SUPPRESSION_FRESH_MS, SUPPRESSION_FRESH_MAX_MS)
    }

    /// What is known of an address in an account changed: all its exports decide anew.
    pub(super) fn decide_everywhere(&mut self, now: Now, id: ConnectionId, address: &str) {
        for export in self.export_ids() {
            if self.export(export).connection == id
                && let Some(slot) = self.export(export).members.find_contact(address)
            {
                self.decide(now, export, slot);
            }
        }
    }

    /// Looks up the first of an export's suppressed adds whose week is over.
    fn look_up_suppressed(&mut self, now: Now, export: ExportId) {
        let (id, application) = (self.export(export).connection, self.export(export).application);
        if self.operator_hold(export).is_some() {
            return;
        }
        // By the vendor's clock alone: a wall clock that runs ahead would cost a call for each of them.
        let Some((vendor_now, _)) = self.applications[usize::from(application.0)].quota.vendor_time(now.mono) else { return };
        while let Some((due, sequence, slot)) = self.export(export).suppressed.due.first().copied() {
            if !self.export(export).members.waits(slot, sequence) {
                self.export_mut(export).suppressed.due.pop_first();
                continue;
            }
            if due > vendor_now {
                self.wake_at(now.mono.plus_ms(due.since_ms(vendor_now)));
                return;
            }
            let known = self.suppressed_at(export, slot);
            if let Some(later) = known.map(look_up_at).filter(|at| *at > due) {
                // Shown, or looked up for another export, meanwhile.
                let due = &mut self.export_mut(export).suppressed.due;
                due.pop_first();
                due.insert((later, sequence, slot));
                continue;
            }
            if self.connections[usize::from(id.0)].suppression.looking_up {
                return;
            }
            let Some(permit) = self.permit(now, id, LANE_CALLS) else { return };
            let address = self.export(export).members.contact(slot).address.clone();
            self.connection_mut(id).suppression.looking_up = true;
            self.call(now, id, permit, Request::LookUp { address: address.clone() }, Purpose::LookUpSuppressed(id, address));
            return;
        }
    }

    /// A suppressed contact that is wanted was looked up: it is released if it is active.
    pub(super) fn on_looked_up_suppressed(
        &mut self,
        now: Now,
        id: ConnectionId,
        address: &Text,
        page: Option<&Page<crate::model::call::Contact>>,
    ) {
        let vendor_now = self.vendor_now(self.catalog.connection(id).application, now);
        let suppression = &mut self.connection_mut(id).suppression;
        suppression.looking_up = false;
        let Some(page) = page else { return };
        let hash = text_hash(address);
        if page.items.iter().any(|contact| contact.address == *address && contact.status == ContactStatus::Active) {
            suppression.shown_at.remove(&hash);
            suppression.dirty.insert(bucket_of(hash));
        } else {
            suppression.insert(hash, vendor_now);
        }
        self.journal.moved = true;
        self.decide_everywhere(now, id, address);
    }

    /// Tells of adds that were refused because their contact is suppressed.
    pub(super) fn tell_suppressed(&mut self) {
        for export in self.export_ids() {
            let contacts = std::mem::take(&mut self.export_mut(export).suppressed.untold);
            if contacts > 0 {
                self.emit(Event::Suppressed { export, contacts });
            }
        }
    }

    /// Why an export's adds wait, where the suppressed contacts are the reason.
    pub(super) fn suppression_hold(&self, export: ExportId) -> Option<HoldReason> {
        let unsent = |stage: &Stage| matches!(stage, Stage::Opening | Stage::Committing(_) | Stage::Ready);
        let reason = self.suppression(export).hold()?;
        let waits = self.export(export).imports.live > 0
            || self.batches.values().any(|batch| batch.export == export && batch.import.is_some() && unsent(&batch.stage));
        waits.then_some(reason)
    }

    /// Contacts of a connection that imports never touch, for the view.
    pub(super) fn suppressed_of(&self, id: ConnectionId) -> u64 {
        u64::from(count(self.connections[usize::from(id.0)].suppression.len()))
    }
}
