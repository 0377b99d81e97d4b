//! Members that were on a list before Listkeeper first sent to it: read once, and never removed, or adopted (`adopted`).
//!
//! Why before the first batch and not when somebody is to leave: by then nothing tells whom we put on the list and who was
//! there already.

use std::collections::BTreeMap;

use crate::model::{
    ContactId, Text,
    call::{Answer, Cursor, Outcome, Request},
    catalog::ExportId,
    hash::text_hash,
    state::{StateChange, StateKey, StateValue},
    time::{Now, UnixMillis},
};

use super::{
    Engine, Event,
    adopted::is_adopted,
    answers::is_stale,
    calls::Purpose,
    limits::{LANE_CALLS, PROTECTED_BUCKET},
    planted::{Bug, planted},
};

/// What is known of a list's members from before.
#[derive(Debug, Default)]
pub(super) struct Existing {
    /// All pages were read.
    read: bool,
    /// Where the page before ended.
    cursor: Option<Cursor>,
    /// Before this time of the vendor's clock its index may show members of ours that have just left this list.
    pub(super) from: Option<UnixMillis>,
    /// A page is asked for.
    under_way: bool,
    /// Hashes of their addresses; ascending once all were read.
    protected: Vec<u64>,
    /// The same as the state's records have them, until all of those were taken.
    restored: BTreeMap<u32, Vec<u64>>,
    /// Records of the state that name them are to be written.
    unwritten: bool,
    /// Those that are to be ours, once all pages were read.
    adopting: Vec<(Text, ContactId)>,
    /// How many of them there were; `None` before all pages were read.
    adopts: Option<u64>,
    /// They were adopted when they were read.
    adopted: bool,
}

impl Existing {
    /// Those of another list, which is not read before a time of the vendor's clock.
    pub(super) fn unread_before(from: UnixMillis) -> Self {
        Self { from: Some(from), ..Self::default() }
    }

    /// Whether they were read, as the state says.
    pub(super) fn restore_read(&mut self, read: bool, adopted: bool) {
        (self.read, self.adopted) = (read, adopted);
    }

    /// How many were read that are to be adopted; `None` where there is nothing to do.
    pub(super) fn adopts(&self) -> Option<u64> {
        self.adopts
    }

    /// The next of them.
    pub(super) fn next_to_adopt(&mut self) -> Option<(Text, ContactId)> {
        self.adopting.pop()
    }

    /// All of them are ours; how many they were.
    pub(super) fn end_adopting(&mut self) -> Option<u64> {
        (self.read, self.adopted, self.adopting) = (true, true, Vec::new());
        self.adopts.take()
    }

    /// Whether they were adopted.
    pub(super) fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// All records of the state were taken.
    pub(super) fn begin(&mut self) {
        self.protected.extend(std::mem::take(&mut self.restored).into_values().flatten());
        self.protected.sort_unstable();
    }

    /// Some of them, as the state has them; `None` where it forgets them.
    pub(super) fn restore(&mut self, bucket: u32, hashes: Option<Vec<u64>>) {
        match hashes {
            Some(hashes) => self.restored.insert(bucket, hashes),
            None => self.restored.remove(&bucket),
        };
    }

    /// The records go: they are of a list that the export has left.
    pub(super) fn forget_records(&self, export: &Text, changes: &mut Vec<StateChange>) {
        for (bucket, _) in (0..).zip(self.protected.chunks(PROTECTED_BUCKET)) {
            changes.push(StateChange { key: StateKey::Protected { export: export.clone(), bucket }, value: None });
        }
    }

    /// Whether all of them are known.
    pub(super) fn is_read(&self) -> bool {
        self.read
    }

    /// Whether an address was on the list before.
    pub(super) fn protects(&self, address: &str) -> bool {
        !planted(Bug::ExistingMembersRemoved)
            && !self.protected.is_empty()
            && self.protected.binary_search(&text_hash(address)).is_ok()
    }

    /// The records that tell the next term, once.
    pub(super) fn take_records(&mut self, export: &Text, changes: &mut Vec<StateChange>) {
        if !std::mem::take(&mut self.unwritten) {
            return;
        }
        for (bucket, hashes) in (0..).zip(self.protected.chunks(PROTECTED_BUCKET)) {
            let key = StateKey::Protected { export: export.clone(), bucket };
            changes.push(StateChange { key, value: Some(StateValue::Protected(hashes.to_vec())) });
        }
    }
}

impl Engine {
    /// What the state says of an export's members from before, and what the configuration wants of them now.
    pub(super) fn begin_existing(&mut self, export: ExportId) {
        let adopts = self.catalog.export(export).adopts_existing;
        let name = self.catalog.export(export).name.clone();
        let state = &mut self.exports[usize::from(export.0)];
        state.existing.begin();
        if state.removed {
            return;
        }
        if adopts && state.existing.read && !state.existing.adopted {
            // They were protected: whoever is there is read once more.
            let from = state.existing.from;
            std::mem::take(&mut state.existing).forget_records(&name, &mut self.journal.ready);
            state.existing.from = from;
        } else if !adopts && state.existing.adopted {
            // Whoever was adopted and is still there is never removed again.
            let members = &state.members;
            let adopted = members.contacts().filter(|(_, contact)| is_adopted(members, contact.owner));
            state.existing.protected.extend(adopted.map(|(_, contact)| text_hash(&contact.address)));
            state.existing.protected.sort_unstable();
            state.existing.protected.dedup();
            (state.existing.adopted, state.existing.unwritten, state.record_due) = (false, true, true);
            self.journal.urgent = true;
        } else if !adopts && state.members.on_list() > 0 {
            // A version that did not read them has put members there: they can no longer be told apart.
            state.existing.read = true;
        }
    }

    /// A list that we made, or that has no members, has none from before.
    pub(super) fn has_no_existing_members(&mut self, export: ExportId) {
        let adopted = self.catalog.export(export).adopts_existing;
        let existing = &mut self.export_mut(export).existing;
        (existing.read, existing.adopted) = (true, adopted);
    }

    /// Reads the next page of a list's members from before, when something waits to be sent.
    pub(super) fn read_existing(&mut self, now: Now, export: ExportId) {
        let state = self.export(export);
        let waits = self.may_go(export) > 0 || self.has_to_adopt(export);
        let (connection, Some(list)) = (state.connection, state.list) else { return };
        if state.existing.read
            || state.existing.adopts.is_some()
            || state.existing.under_way
            || !waits
            || !self.sends(export)
            || state.held.is_some()
        {
            return;
        }
        if let Some(from) = state.existing.from {
            let left_ms = from.since_ms(self.vendor_now(state.application, now));
            if left_ms > 0 {
                self.wake_at(now.mono.plus_ms(left_ms));
                return;
            }
        }
        let cursor = self.export(export).existing.cursor.clone();
        let Some(permit) = self.permit(now, connection, LANE_CALLS) else { return };
        self.export_mut(export).existing.under_way = true;
        self.call(now, connection, permit, Request::ListMembers { list, cursor }, Purpose::ReadExisting(export));
    }

    /// A page of them came, or did not.
    pub(super) fn on_existing(&mut self, export: ExportId, outcome: Outcome) {
        let adopts = self.catalog.export(export).adopts_existing;
        let existing = &mut self.export_mut(export).existing;
        existing.under_way = false;
        let stale = is_stale(&outcome);
        let Outcome::Answered(Answer::Contacts(page)) = outcome else {
            if stale {
                existing.cursor = None;
                existing.adopting = Vec::new();
            }
            return;
        };
        if adopts {
            existing.adopting.extend(page.items.into_iter().map(|contact| (contact.address, contact.contact_id)));
        } else {
            existing.protected.extend(page.items.iter().map(|contact| text_hash(&contact.address)));
        }
        existing.cursor = page.next;
        if existing.cursor.is_some() {
            return;
        }
        if adopts {
            let contacts = existing.adopting.len() as u64;
            existing.adopts = Some(contacts);
            self.export_mut(export).members_shown = contacts;
            return;
        }
        existing.read = true;
        existing.protected.sort_unstable();
        existing.protected.dedup();
        existing.unwritten = true;
        let contacts = existing.protected.len() as u64;
        let state = self.export_mut(export);
        state.members_shown = contacts;
        state.record_due = true;
        self.journal.moved = true;
        self.emit(Event::ExistingMembersRead { export, contacts });
    }
}
