//! A term's beginning: what the state tells, what Kafka says of the source, and whether the two agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{
    ListId, Text,
    batch::{BatchName, RoundStep},
    catalog::ExportId,
    hash::text_hash,
    position::{NextOffset, PartitionId},
    row::Row,
    state::{
        BatchChunk, Header, LedgerRecord, MemberCut, ROW_LEFT, ROW_UNKNOWN, STATE_FORMAT, Sent, StateChange, StateKey,
        StateValue, SuppressedBucket,
    },
    time::{Mono, Now, UnixMillis},
};

use super::{
    ApplicationState, ConnectionState, Engine, Event,
    activity::{Batch, BatchRow, Look, Stage},
    coalescer::Tokens,
    limits::{LEASE_MS, TAKEOVER_MARGIN_MS, count},
    membership::{ContactSlot, InFlight, Known, MemberId},
    order::without_empty_gains,
    pacer::{Pacer, SLOT_REST_MS},
    planted::{Bug, planted},
    quota::Quota,
    reason::{HoldReason, Holder},
    rounds::Round,
    router::Router,
};

/// What a term begins from, beside the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beginning {
    /// For each partition of the source, what Kafka says of it.
    pub partitions: Vec<PartitionBeginning>,
    /// When the producers of earlier terms were fenced (`init_transactions` returned).
    pub fenced_at: Mono,
}

/// What Kafka says of one source partition when a term begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionBeginning {
    /// The committed offset; without one, the offset that `source.start` resolves to, and `committed` is false.
    pub start: NextOffset,
    /// Whether `start` was committed.
    pub committed: bool,
    /// The log's first offset.
    pub log_start: i64,
    /// The log's end, with what a transaction under way has written.
    pub log_end: i64,
    /// Hash of the record that the header names as the last settled, as the source has it now; `None` where the header
    /// names none, or the source has it no more.
    pub settled_hash: Option<u64>,
}

/// What was restored and waits for the term to begin.
#[derive(Debug, Default)]
pub(super) struct Restored {
    header: Option<Header>,
    ledgers: BTreeMap<u64, LedgerRecord>,
    pub(super) batches: BTreeMap<BatchName, BTreeMap<u32, BatchChunk>>,
    pub(super) exports_by_name: BTreeMap<Text, ExportId>,
    /// The lists that exports had found.
    pub(super) lists: BTreeMap<ExportId, ListId>,
    /// Exports that are not configured stand behind the others, and nobody knows yet in which account they are.
    pub(super) unplaced: bool,
    /// Rows to be sent, and who said so.
    pub(super) rows: BTreeMap<(ExportId, ContactSlot), RowsOf>,
    /// Further members whose records say what was applied of a contact, beside its owner.
    pub(super) claims: BTreeMap<(ExportId, ContactSlot), ClaimsOf>,
    /// The sends that members' records tell of.
    pub(super) sent: BTreeMap<(ExportId, MemberId), Vec<Sent>>,
}

pub(super) type RowsOf = SmallVec<[(MemberId, Row, UnixMillis); 1]>;
pub(super) type ClaimsOf = SmallVec<[(MemberId, Known); 1]>;

/// The owner of a contact whose owner's record was forgotten: another member may have that slot by then.
const NOBODY: MemberId = MemberId(u32::MAX);

/// Drops what one member said of a contact.
fn forget_of<T, const N: usize>(
    said: &mut BTreeMap<(ExportId, ContactSlot), SmallVec<[T; N]>>,
    key: (ExportId, ContactSlot),
    by: impl Fn(&T) -> bool,
) where
    [T; N]: smallvec::Array<Item = T>,
{
    if let Some(items) = said.get_mut(&key) {
        items.retain(|item| !by(item));
        if items.is_empty() {
            said.remove(&key);
        }
    }
}

impl Engine {
    /// Takes one record of the state topic, oldest first; `value: None` forgets the key.
    pub fn restore(&mut self, change: StateChange) {
        if self.restored.exports_by_name.is_empty() {
            let names = self.export_ids().map(|id| (self.catalog.export(id).name.clone(), id));
            self.restored.exports_by_name = names.collect();
        }
        match (change.key, change.value) {
            (StateKey::Header, Some(StateValue::Header(header))) => self.restored.header = Some(header),
            (StateKey::Member { export, profile }, Some(StateValue::Member(cut))) => {
                let id = self.export_of_record(&export);
                self.restore_member(id, &profile, cut);
            }
            (StateKey::Member { export, profile }, _) => {
                if let Some(id) = self.restored.exports_by_name.get(&export).copied() {
                    self.forget_restored(id, &profile);
                }
            }
            (StateKey::Batch { name, chunk }, Some(StateValue::Batch(record))) => {
                self.export_of_record(&record.export);
                self.restored.batches.entry(name).or_default().insert(chunk, record);
            }
            (StateKey::Batch { name, chunk }, _) => {
                if let Some(chunks) = self.restored.batches.get_mut(&name) {
                    chunks.remove(&chunk);
                }
            }
            (StateKey::Ledger { application }, Some(StateValue::Ledger(record))) => {
                self.restored.ledgers.insert(application.0, record);
            }
            (StateKey::Export { export }, Some(StateValue::Export(record))) => {
                let id = self.export_of_record(&export);
                self.restored.lists.remove(&id);
                self.restored.lists.extend(record.list.map(|list| (id, list)));
                let state = self.export_mut(id);
                state.hourly = super::hourly::HourlyRows::restored(&record.rows_by_minute);
                state.existing.restore_read(record.existing_read, record.existing_adopted);
                state.existing.from = record.existing_from;
                state.control = record.control;
                state.brake.removed = super::hourly::HourlyRows::restored(&record.removed_by_minute);
                state.arrivals = record.arrivals_per_hour.map(super::price::ArrivalRate::restored);
            }
            (StateKey::Protected { export, bucket }, value) => {
                let hashes = if let Some(StateValue::Protected(hashes)) = value { Some(hashes) } else { None };
                let id = self.export_of_record(&export);
                self.export_mut(id).existing.restore(bucket, hashes);
            }
            (StateKey::Connection { connection }, Some(StateValue::Connection(record))) => {
                if let Some(state) = self.connection_named(&connection) {
                    state.restore_record(&record);
                }
            }
            (StateKey::Suppressed { connection, bucket }, value) => {
                if let Some(state) = self.connection_named(&connection) {
                    let record =
                        if let Some(StateValue::Suppressed(record)) = value { record } else { SuppressedBucket::default() };
                    state.suppression.restore(bucket, record);
                }
            }
            (StateKey::Header | StateKey::Ledger { .. } | StateKey::Export { .. } | StateKey::Connection { .. }, _) => {}
        }
    }

    fn connection_named(&mut self, name: &Text) -> Option<&mut ConnectionState> {
        let index = self.catalog.connections.iter().position(|connection| connection.name == *name)?;
        self.connections.get_mut(index)
    }

    /// The header restored last, for the driver's own checks.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.restored.header.as_ref()
    }

    /// Takes back what the record before said of a member. Records come in the order of the log, also those that a newer
    /// one of another key corrects: who claims a contact is kept apart until the last of them was read.
    fn forget_restored(&mut self, export: ExportId, profile: &Text) {
        let Some(id) = self.export(export).members.find(profile) else { return };
        let members = &mut self.exports[usize::from(export.0)].members;
        let member = members.member_mut(id);
        let mut slots: SmallVec<[ContactSlot; 2]> = SmallVec::from_slice(&std::mem::take(&mut member.former));
        slots.extend(member.contact);
        members.set_contact(id, None);
        for slot in slots {
            let Some(contact) = members.contact_if(slot) else { continue };
            let owner = contact.owner;
            members.contact_mut(slot).wanted_by.retain(|member| *member != id);
            forget_of(&mut self.restored.rows, (export, slot), |(member, ..)| *member == id);
            forget_of(&mut self.restored.claims, (export, slot), |(member, _)| *member == id);
            if owner == id {
                let next = self.restored.claims.get(&(export, slot)).and_then(|claims| claims.first().copied());
                forget_of(&mut self.restored.claims, (export, slot), |(member, _)| Some(*member) == next.map(|(next, _)| next));
                members.set_known(slot, next.map_or(Known::Off, |(_, known)| known));
                if next.is_none() {
                    members.forget_left(slot);
                }
                let contact = members.contact_mut(slot);
                contact.owner = next.map(|(next, _)| next).or(contact.wanted_by.first().copied()).unwrap_or(NOBODY);
                members.forget_contact_if_idle(slot);
            }
        }
        members.forget_member(id);
        members.forget_was_sent();
        self.restored.sent.remove(&(export, id));
    }

    fn restore_member(&mut self, export: ExportId, profile: &Text, cut: MemberCut) {
        self.forget_restored(export, profile);
        let members = &mut self.exports[usize::from(export.0)].members;
        let segments = cut.segments.iter().filter_map(|segment| members.bit(segment)).fold(0, |word, bit| word | bit);
        let id = members.find_or_insert(profile);
        let wanted = cut.address.as_ref().map(|address| members.find_or_insert_contact(address, id));
        let member = members.member_mut(id);
        member.segments = segments;
        member.changed_at = cut.changed_at;
        member.recorded = true;
        member.erased = cut.erased;
        member.refused = cut.refused.filter(|_| !planted(Bug::RefusedForgotten)).map(Box::new);
        let is_refused = member.refused.is_some();
        if !cut.sent.is_empty() {
            self.restored.sent.insert((export, id), cut.sent);
        }
        members.set_positions(id, &cut.positions);
        members.set_contact(id, wanted);
        if let Some(slot) = wanted {
            if members.wants(segments) && !(is_refused && cut.row.is_none()) {
                members.contact_mut(slot).wanted_by.push(id);
            }
            if let Some(row) = cut.row {
                self.restored.rows.entry((export, slot)).or_default().push((id, row, cut.changed_at));
            }
        }
        for applied in cut.applied {
            let known = match applied.row_hash {
                ROW_LEFT if !members.keeps_left() => continue,
                ROW_LEFT => Known::Off,
                ROW_UNKNOWN => Known::Unknown { since: applied.at },
                row_hash => Known::On { row_hash, at: applied.at },
            };
            let slot = members.find_or_insert_contact(&applied.address, id);
            let contact = members.contact_mut(slot);
            if contact.known == Known::Off {
                contact.owner = id;
                members.set_known(slot, known);
                if known == Known::Off {
                    members.keep_left(slot);
                }
            } else {
                self.restored.claims.entry((export, slot)).or_default().push((id, known));
            }
            if Some(slot) != wanted {
                members.member_mut(id).former.push(slot);
            }
        }
    }

    /// Lets whoever wants a contact carry what was applied of it, as it is while a term runs.
    fn settle_owner(&mut self, export: ExportId, slot: ContactSlot) {
        let members = &mut self.export_mut(export).members;
        let contact = members.contact(slot);
        let owner = contact.owner;
        let Some(wants) = contact.wanted_by.first().copied().filter(|_| !contact.wanted_by.contains(&owner)) else { return };
        members.contact_mut(slot).owner = wants;
        // Whoever owned it may be gone, while somebody else's record kept its address.
        if members.member_if(owner).is_some() {
            members.member_mut(owner).former.retain(|former| *former != slot);
        }
        self.due(export, owner);
        self.due(export, wants);
    }

    /// Begins the term. The partitions to read and where (of which [`Self::waiting_partitions`] are not read yet), or why nothing moves (also in the snapshot): then the
    /// engine stays without outputs but events, and the driver serves `/health` until it is stopped.
    ///
    /// # Errors
    /// The hold of the whole shard.
    pub fn begin(&mut self, now: Now, beginning: &Beginning) -> Result<Vec<NextOffset>, HoldReason> {
        let header = self.restored.header.take();
        self.place_removed(header.as_ref());
        for (id, list) in self.restored.lists.clone() {
            self.export_mut(id).list.get_or_insert(list);
        }
        self.begin_started();
        let beginning = &without_empty_gains(header.as_ref(), beginning);
        if let Err(reason) = self.check(header.as_ref(), beginning) {
            self.hold(reason);
            return Err(reason);
        }
        let catalog = Arc::clone(&self.catalog);
        self.applications = catalog
            .applications
            .iter()
            .map(|application| {
                let kept = u32::from(100 - application.reserved_for_others_percent.min(100));
                let per_day = application
                    .calls_per_day
                    .map(|calls| u32::try_from(u64::from(calls) * u64::from(kept) / 100).unwrap_or(calls));
                let ledger = self.restored.ledgers.get(&application.client_id_hash.0).copied();
                let ledger = ledger.filter(|_| !planted(Bug::QuotaNotPersisted));
                ApplicationState {
                    pacer: Pacer::new(application.calls_per_second),
                    quota: Quota::new(per_day, ledger, now.wall),
                    price: super::price::Price::default(),
                    overhead: super::price::Overhead::default(),
                    hour_clock: None,
                    pours: false,
                    unsent: 0,
                    ready: 0,
                    owed: 0,
                    promised: 0,
                    held: None,
                }
            })
            .collect();
        self.first_call_at = match &header {
            None => now.mono,
            Some(_) if planted(Bug::NoWaitAfterTakeover) => now.mono,
            // Its last calls were answered before it was fenced: they still count for a second of the vendor's clock.
            Some(header) if header.ended => beginning.fenced_at.plus_ms(SLOT_REST_MS),
            Some(_) => beginning.fenced_at.plus_ms(LEASE_MS + catalog.timing.request_deadline_ms + TAKEOVER_MARGIN_MS),
        };
        for partition in &beginning.partitions {
            let settled =
                header.as_ref().and_then(|header| header.partition(partition.start.partition)).and_then(|p| p.last_settled);
            self.acks.begin(partition.start, settled);
        }
        let starts = self.route_anew(header.as_ref(), beginning);
        self.begin_not_started();
        self.ends = beginning.partitions.iter().map(|partition| (partition.start.partition, partition.log_end)).collect();
        self.begin_order(header.as_ref(), beginning);
        self.router = Some(Router::new(&catalog, |id| self.export(id).routed));
        self.restore_sends();
        self.restore_batches(now, header.as_ref());
        for export in self.export_ids() {
            self.begin_export(now, export, self.rows_fit(header.as_ref(), export));
        }
        // The first transaction says where the term began, before its first event.
        self.journal.urgent = true;
        self.settle(now);
        Ok(starts)
    }

    /// Nothing moves, for a reason that the driver met before the term could begin.
    pub fn hold(&mut self, reason: HoldReason) {
        self.held = Some(reason);
        self.forget_unplaced();
        self.emit(Event::Held { who: Holder::Shard, reason, until: None });
    }

    /// Whether state and source agree.
    fn check(&self, header: Option<&Header>, beginning: &Beginning) -> Result<(), HoldReason> {
        let Some(header) = header else {
            let committed = beginning.partitions.iter().any(|partition| partition.committed);
            return if committed { Err(HoldReason::StateGone) } else { Ok(()) };
        };
        if header.format > STATE_FORMAT {
            return Err(HoldReason::StateUnreadable);
        }
        for partition in &beginning.partitions {
            let known = header.partition(partition.start.partition);
            match known {
                // A partition that the source gained since: read from its beginning.
                None => {}
                Some(known) if !partition.committed || known.next.offset != partition.start.offset => {
                    return Err(HoldReason::HeaderDisagrees);
                }
                Some(_) if partition.start.offset < partition.log_start => return Err(HoldReason::RetentionGap),
                Some(_) if partition.start.offset > partition.log_end => return Err(HoldReason::HeaderDisagrees),
                // A source made anew that has grown past the old offset; a record that has expired is no disagreement.
                Some(known) if known.last_settled.is_some_and(|was| partition.settled_hash.is_some_and(|is| is != was.hash)) => {
                    return Err(HoldReason::HeaderDisagrees);
                }
                Some(_) => {}
            }
        }
        let missing = |id: PartitionId| !beginning.partitions.iter().any(|partition| partition.start.partition == id);
        if header.partitions.iter().any(|partition| missing(partition.next.partition)) {
            return Err(HoldReason::HeaderDisagrees);
        }
        Ok(())
    }

    /// Open batches of earlier terms: their contacts are fenced, and nothing is known of them until the fence falls.
    fn restore_batches(&mut self, now: Now, header: Option<&Header>) {
        for (name, chunks) in std::mem::take(&mut self.restored.batches) {
            let Some(first) = chunks.values().next() else { continue };
            // In an account that is not configured nothing is sent: there is nothing to fence, and the record stays.
            let round = first.round;
            let export = self.restored.exports_by_name.get(&first.export).copied();
            let place = export.and_then(|export| Some((export, self.connection_of_batch(header, export, first)?)));
            let Some((export, connection)) = place else {
                round.into_iter().for_each(|round| self.condemn_anywhere(round.list));
                continue;
            };
            if first.given_up {
                self.restore_ghost(name, export, connection, chunks);
                continue;
            }
            let (operation, list, opened_at, deletes) = (first.operation, first.list, first.opened_at, first.deletes);
            let number = self.next_batch;
            self.next_batch += 1;
            self.connection_mut(connection).used = true;
            let (mut rows, mut ids) = (Vec::new(), Vec::new());
            let mut carried: BTreeMap<PartitionId, i64> = BTreeMap::new();
            for contact in chunks.into_values().flat_map(|chunk| chunk.rows) {
                let members = &mut self.exports[usize::from(export.0)].members;
                let named = members.find_or_insert(&contact.profile);
                let slot = members.find_or_insert_contact(&contact.address, named);
                // Whoever owned it may be gone, while somebody else's record kept its address.
                if members.member_if(members.contact(slot).owner).is_none() {
                    members.contact_mut(slot).owner = named;
                }
                let owner = members.contact(slot).owner;
                let member = members.member(owner);
                if member.contact != Some(slot) && !member.former.contains(&slot) {
                    members.member_mut(owner).former.push(slot);
                }
                members.contact_mut(slot).in_flight = Some(InFlight::new(number, count(rows.len())));
                if !planted(Bug::NoNetChangeAfterCrash) {
                    members.set_known(slot, Known::Unknown { since: now.wall });
                }
                self.connections[usize::from(connection.0)].fences.entry(text_hash(&contact.address)).or_default();
                let tokens = Tokens::new();
                let (since, parks_at) = (UnixMillis(0), Mono(0));
                rows.push(BatchRow { slot, row_hash: 0, since, tokens, parks_at, touched: SmallVec::new() });
                ids.extend(contact.contact_id);
                let position = carried.entry(contact.position.partition).or_insert(contact.position.offset);
                *position = (*position).max(contact.position.offset);
            }
            let account = self.connection_mut(connection);
            (account.open_batches, account.open_rows) = (account.open_batches + 1, account.open_rows + rows.len() as u64);
            self.export_mut(export).rows_open += rows.len() as u64;
            if let Some(round) = round {
                self.connection_mut(connection).staging.serves(round.list);
            }
            let round = round.map(|round| Round::new(round.list, round.step, true));
            let step = round.as_ref().map(|round| round.step);
            let sends = if step == Some(RoundStep::Import) { crate::model::batch::Operation::Import } else { operation };
            let stage = match sends {
                // Its rows are not in the state: it cannot be repeated, and whatever has no name is waited for.
                crate::model::batch::Operation::Import if self.is_nameless(connection) => {
                    Stage::clearing(self.first_call_at, false)
                }
                crate::model::batch::Operation::Import => {
                    Stage::Looking(Look { cursor: None, absent_since: None, next_at: self.first_call_at, under_way: false })
                }
                // Nothing leaves the list of a removed export any more but who is erased, which is decided anew.
                crate::model::batch::Operation::Remove if self.export(export).removed => {
                    Stage::clearing(self.first_call_at, false)
                }
                // It may be shown late; its import is looked for after that.
                crate::model::batch::Operation::Remove if step == Some(RoundStep::RemoveAhead) => {
                    Stage::clearing(self.first_call_at.plus_ms(self.catalog.timing.quiet_ms), false)
                }
                crate::model::batch::Operation::Remove => Stage::Ready,
            };
            let mut batch = Batch {
                name,
                export,
                connection,
                operation,
                list,
                rows,
                removals: 0,
                adds: 0,
                import: None,
                ids,
                round,
                stage,
                opened_at,
                counted_at: opened_at,
                reason: crate::model::batch::CutReason::Again,
                not_before: self.first_call_at,
                restored: true,
                repeated: sends == crate::model::batch::Operation::Remove,
                parks_at: None,
                given_up: false,
                haunted: BTreeSet::new(),
                cannot_add: 0,
                search: None,
                unfound: 0,
                vendor_ms: 0,
                reads_first: None,
                seen: None,
                recorded: true,
                deletes,
                carried,
            };
            self.count_begun(&mut batch);
            self.adds_begin(&mut batch);
            self.batches.insert(number, batch);
        }
    }

    /// Derives what is to be sent from what is wanted and what was applied.
    fn begin_export(&mut self, now: Now, export: ExportId, rows_fit: bool) {
        self.begin_existing(export);
        let state = self.export_mut(export);
        let slots: Vec<_> = state.members.contacts().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.settle_owner(export, slot);
            for (member, _) in self.restored.claims.remove(&(export, slot)).unwrap_or_default() {
                self.export_mut(export).members.member_mut(member).former.retain(|former| *former != slot);
                self.due(export, member);
            }
            // Whoever wrote last of those that share it.
            let rows = self.restored.rows.remove(&(export, slot)).unwrap_or_default();
            if let Some((_, mut row, _)) = rows.into_iter().max_by_key(|(_, _, changed_at)| *changed_at) {
                if !rows_fit {
                    // Of another mapping: its values are told anew by what is read again.
                    row.custom = vec![None; self.catalog.export(export).mapping.custom.len()];
                }
                self.put_waiting_new(now, export, slot, row);
            }
            self.decide(now, export, slot);
        }
        let watermarks = self.acks.watermarks();
        let state = self.export_mut(export);
        let gone = state.members.members().filter(|(_, m)| m.segments == 0 && m.contact.is_none() && m.former.is_empty());
        let leaving: Vec<_> = gone.map(|(id, member)| (member.position.partition.0, member.position.offset, id.0)).collect();
        state.leaving.extend(leaving);
        if watermarks.is_empty() {
            state.leaving.clear();
        }
    }
}

impl Engine {
    /// True when nothing waits, nothing is under way and everything delivered is settled and written.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let moves = self.exports.iter().any(|export| export.moving.is_some());
        !moves
            && !self.export_ids().any(|id| self.has_to_adopt(id))
            && self.journal.waiting == 0
            && self.exports.iter().all(|export| export.flapping.live == 0)
            && self.batches.is_empty()
            && self.acks.unsettled() == 0
            && self.journal.is_empty()
            && !self.deletes_lists()
            && !self.is_to_be_counted()
    }
}
