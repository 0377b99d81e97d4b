//! Exports that the state knows and the configuration does not. What is theirs stays on their lists; an erasure still
//! reaches it, and what may still run of them is followed to its end.
//!
//! Why as exports of the engine's own: their batches need fences, and who was erased has to leave their lists like
//! anybody else. They stand behind the configured ones in the engine's copy of the catalog, without segments and with
//! `on_exit: keep`: nothing is routed to them, nothing is added, and nobody leaves but who was erased.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    ListId, Text,
    batch::BatchName,
    catalog::{
        Backfill, Catalog, ConnectionId, Export, ExportId, FieldId, ListRef, Mapping, NoAddress, OnErasure, OnExit,
        RemovalStrategy,
    },
    state::{BatchChunk, Header},
    time::Now,
};

use super::{Engine, ExportState, begin::Restored, membership::ContactSlot};

/// An export of which the state alone tells; where it is follows from the header, which is read later.
fn unplaced(name: &Text) -> Export {
    Export {
        name: name.clone(),
        connection: ConnectionId(0),
        list: ListRef::Named { name: Text::default(), create: false },
        segments: Vec::new(),
        mapping: Mapping::address_alone(FieldId(0), 0),
        no_address: NoAddress::Skip,
        on_exit: OnExit::Keep,
        backfill: Backfill::None,
        removal_strategies: vec![RemovalStrategy::LookUp, RemovalStrategy::Scan],
        adopts_existing: false,
        removal_brake: None,
        profiles_per_hour_max: None,
        weight: 1,
        starts_at_once: true,
    }
}

/// A list as a header names it.
pub(super) fn list_of(text: &Text) -> ListRef {
    match (text.strip_prefix("name:"), ListId::parse_str(text)) {
        (None, Ok(id)) => ListRef::Id(id),
        (Some(name), _) => ListRef::Named { name: name.into(), create: false },
        (None, Err(_)) => ListRef::Named { name: text.clone(), create: false },
    }
}

impl Restored {
    /// The first part of some open batch of an export.
    fn batch_of(&self, export: &Text) -> Option<&BatchChunk> {
        let batches: &BTreeMap<BatchName, BTreeMap<u32, BatchChunk>> = &self.batches;
        batches.values().filter_map(|chunks| chunks.values().next()).find(|chunk| chunk.export == *export)
    }
}

impl Engine {
    /// The catalog as the engine numbers it: removed exports that are not forgotten stand behind the configured ones.
    #[must_use]
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The export that a record of the state is of.
    pub(super) fn export_of_record(&mut self, name: &Text) -> ExportId {
        if let Some(id) = self.restored.exports_by_name.get(name) {
            return *id;
        }
        let id = ExportId::at(self.exports.len());
        let export = unplaced(name);
        let mut state = ExportState::new(&self.catalog, &export, self.rng.u64(..));
        state.remove();
        // Its account is not known yet.
        if self.catalog.connections.iter().any(|connection| connection.on_erasure == OnErasure::DeleteContact) {
            state.members.keep_all_left();
        }
        self.exports.push(state);
        Arc::make_mut(&mut self.catalog).exports.push(export);
        self.restored.exports_by_name.insert(name.clone(), id);
        self.restored.unplaced = true;
        id
    }

    /// Finds out in which account the removed exports are. Of one whose account is not configured either nothing can be
    /// reached: its records stay as they are.
    pub(super) fn place_removed(&mut self, header: Option<&Header>) {
        if !std::mem::take(&mut self.restored.unplaced) {
            return;
        }
        let first = self.exports.partition_point(|export| !export.removed);
        let removed: Vec<_> = self.exports.drain(first..).collect();
        let named = Arc::make_mut(&mut self.catalog).exports.split_off(first);
        let mut numbers: BTreeMap<ExportId, ExportId> = BTreeMap::new();
        for (index, (mut state, mut export)) in removed.into_iter().zip(named).enumerate() {
            let empty = state.members.profiles() == 0 && self.restored.batch_of(&export.name).is_none();
            let Some((connection, list)) = self.place_of_removed(header, &export.name).filter(|_| !empty) else {
                self.restored.exports_by_name.remove(&export.name);
                continue;
            };
            let id = ExportId::at(self.exports.len());
            numbers.insert(ExportId::at(first + index), id);
            self.restored.exports_by_name.insert(export.name.clone(), id);
            (export.connection, export.list) = (connection, list);
            state.connection = connection;
            state.application = self.catalog.connection(connection).application;
            if let ListRef::Id(list) = export.list {
                state.list = Some(list);
            }
            // So that its token lives for as long as somebody may be erased.
            self.connection_mut(connection).used = true;
            Arc::make_mut(&mut self.catalog).exports.push(export);
            self.exports.push(state);
        }
        let renumber = |id: ExportId| if usize::from(id.0) < first { Some(id) } else { numbers.get(&id).copied() };
        let rows = std::mem::take(&mut self.restored.rows);
        self.restored.rows = rows.into_iter().filter_map(|((id, slot), rows)| Some(((renumber(id)?, slot), rows))).collect();
        let claims = std::mem::take(&mut self.restored.claims);
        let claims = claims.into_iter().filter_map(|((id, slot), claims)| Some(((renumber(id)?, slot), claims)));
        self.restored.claims = claims.collect();
        let sent = std::mem::take(&mut self.restored.sent);
        self.restored.sent = sent.into_iter().filter_map(|((id, member), sent)| Some(((renumber(id)?, member), sent))).collect();
        let lists = std::mem::take(&mut self.restored.lists);
        self.restored.lists = lists.into_iter().filter_map(|(id, list)| Some((renumber(id)?, list))).collect();
    }

    /// Forgets the removed exports where no term begins.
    pub(super) fn forget_unplaced(&mut self) {
        if std::mem::take(&mut self.restored.unplaced) {
            let first = self.exports.partition_point(|export| !export.removed);
            self.exports.truncate(first);
            Arc::make_mut(&mut self.catalog).exports.truncate(first);
        }
    }

    fn place_of_removed(&self, header: Option<&Header>, name: &Text) -> Option<(ConnectionId, ListRef)> {
        let routed = header.and_then(|header| header.routed.iter().find(|routed| routed.export == *name));
        let stopped = header.and_then(|header| header.stopped.iter().find(|stopped| stopped.export == *name));
        let place = routed.map(|routed| (&routed.connection, &routed.list));
        if let Some((connection, list)) = place.or_else(|| stopped.map(|stopped| (&stopped.connection, &stopped.list))) {
            return Some((self.connection_of(connection)?, list_of(list)));
        }
        let batch = self.restored.batch_of(name)?;
        Some((self.connection_of(&batch.connection)?, ListRef::Id(batch.list)))
    }

    /// The connection of a name. A record of a version that wrote none can only be of the one there is.
    fn connection_of(&self, name: &Text) -> Option<ConnectionId> {
        let mut ids = self.connection_ids();
        if name.is_empty() {
            return ids.next().filter(|_| ids.next().is_none());
        }
        ids.find(|id| self.catalog.connection(*id).name == *name)
    }

    /// The account that an open batch of the state was sent to; `None` where it is not configured.
    pub(super) fn connection_of_batch(
        &self,
        header: Option<&Header>,
        export: ExportId,
        batch: &BatchChunk,
    ) -> Option<ConnectionId> {
        if !batch.connection.is_empty() {
            return self.connection_of(&batch.connection);
        }
        let place = header.and_then(|header| {
            let routed = header.routed.iter().find(|routed| routed.export == batch.export).map(|routed| &routed.connection);
            let stopped = header.stopped.iter().find(|stopped| stopped.export == batch.export);
            routed.or_else(|| stopped.map(|stopped| &stopped.connection))
        });
        place.map_or(Some(self.export(export).connection), |name| self.connection_of(name))
    }

    /// Whether something of an export may be sent: it runs, or it is removed, or not started, and somebody is erased from its
    /// list.
    pub(super) fn sends(&self, id: ExportId) -> bool {
        let state = self.export(id);
        state.routed || state.reaches_erased || (state.removed && self.catalog.connection(state.connection).consent.is_some())
    }

    /// Whether the list of a removed export is a configured one's now, and that one wants the contact on it.
    pub(super) fn is_anothers(&self, id: ExportId, slot: ContactSlot) -> bool {
        let state = self.export(id);
        let Some(list) = state.list.filter(|_| state.removed) else { return false };
        let address = &state.members.contact(slot).address;
        let mut others = self.exports.iter().filter(|other| !other.removed && other.connection == state.connection);
        others.any(|other| {
            let contact = other.members.find_contact(address).map(|slot| other.members.contact(slot));
            other.list == Some(list) && contact.is_some_and(super::membership::Contact::wanted)
        })
    }

    /// An activity that held an address has ended: what it put on a list is not to be taken off for a removed export.
    pub(super) fn leave_to_others(&mut self, now: Now, connection: ConnectionId, address: &str) {
        for id in self.export_ids() {
            if !self.export(id).removed {
                continue;
            }
            let slot = self.export(id).members.find_contact(address).filter(|_| self.export(id).connection == connection);
            if let Some(slot) = slot.filter(|slot| self.is_anothers(id, *slot)) {
                self.decide(now, id, slot);
            }
        }
    }
}

impl ExportState {
    /// It is not configured: whoever is in any segment that it ever had is not to be taken for somebody who left.
    fn remove(&mut self) {
        self.removed = true;
        self.routed = false;
        self.members.want_all();
    }
}
