//! Changes that wait for longer than `park_after`: their events are settled, and what is to be sent stays in the state.
//!
//! Why: nothing but the vendor's pace keeps such a change from being applied, and a watermark that waited for it would
//! in the end lose the source's retention. So the record of the profile, with the row to send, goes into the same
//! transaction as the watermark that passes its events; the change itself waits on, in memory, as it did.

use std::collections::BTreeMap;

use crate::model::{
    catalog::ExportId,
    time::{Mono, Now},
};

use super::{
    Engine, Event,
    coalescer::Tokens,
    limits::DIRTY_MEMBERS_MAX,
    membership::{ContactSlot, MemberId},
};

/// Entries that may be stale before they are looked through.
const STALE_MIN: usize = 65_536;

/// Which changes are parked when, by whole seconds. An entry is dropped late: a change that was sent meanwhile, or
/// that carries no event any more, is passed over.
#[derive(Debug, Default)]
pub(super) struct Parking {
    by_second: BTreeMap<u64, Vec<(ExportId, ContactSlot)>>,
    entries: usize,
}

impl Parking {
    fn push(&mut self, second: u64, export: ExportId, slot: ContactSlot) {
        self.by_second.entry(second).or_default().push((export, slot));
        self.entries += 1;
    }

    /// When the first of them is due.
    fn first(&self) -> Option<Mono> {
        self.by_second.first_key_value().map(|(second, _)| Mono(second.saturating_mul(1_000)))
    }
}

/// The second at whose beginning an instant has passed.
const fn second(at: Mono) -> u64 {
    at.0.div_ceil(1_000)
}

impl Engine {
    /// A change that carries an event is parked at `at` unless it is settled before.
    pub(super) fn park_at(&mut self, at: Mono, export: ExportId, slot: ContactSlot) -> Mono {
        let second = second(at);
        self.parking.push(second, export, slot);
        if self.parking.entries > STALE_MIN && self.parking.entries / 2 > self.journal.waiting {
            self.tidy_parking();
        }
        Mono(second.saturating_mul(1_000))
    }

    /// When a change that begins to carry events now is parked.
    pub(super) fn park_after(&self, now: Now) -> Mono {
        now.mono.plus_ms(self.catalog.timing.park_after_ms)
    }

    fn tidy_parking(&mut self) {
        let mut parking = std::mem::take(&mut self.parking);
        for (second, entries) in &mut parking.by_second {
            entries.retain(|(export, slot)| self.parks(*second, *export, *slot));
        }
        parking.by_second.retain(|_, entries| !entries.is_empty());
        parking.entries = parking.by_second.values().map(Vec::len).sum();
        self.parking = parking;
    }

    fn parks(&self, second: u64, export: ExportId, slot: ContactSlot) -> bool {
        let waiting = self.export(export).members.contact_if(slot).and_then(|contact| contact.waiting.as_ref());
        waiting.is_some_and(|waiting| !waiting.tokens.is_empty() && waiting.parks_at.0 / 1_000 == second)
    }

    /// Parks what is due, as far as the next transaction has room for its records.
    pub(super) fn park(&mut self, now: Now) {
        let mut parked: BTreeMap<ExportId, u32> = BTreeMap::new();
        while let Some(at) = self.parking.first() {
            if at > now.mono {
                self.wake_at(at);
                break;
            }
            if self.journal.due() >= DIRTY_MEMBERS_MAX {
                break;
            }
            let Some(mut bucket) = self.parking.by_second.first_entry() else { break };
            let second = *bucket.key();
            let Some((export, slot)) = bucket.get_mut().pop() else {
                bucket.remove();
                continue;
            };
            self.parking.entries -= 1;
            if !self.parks(second, export, slot) {
                continue;
            }
            let contact = self.export_mut(export).members.contact_mut(slot);
            let Some(waiting) = contact.waiting.as_mut() else { continue };
            let (tokens, touched) = (std::mem::take(&mut waiting.tokens), waiting.touched.clone());
            self.settle_with_sharers(export, slot, tokens, &touched);
            *parked.entry(export).or_default() += 1;
        }
        let numbers: Vec<u64> = self.batches.keys().copied().collect();
        for number in numbers {
            self.park_batch(now, number, &mut parked);
        }
        for (export, contacts) in parked {
            self.emit(Event::Parked { export, contacts });
        }
    }

    /// What has been in flight for so long is parked too; its batch stays open.
    fn park_batch(&mut self, now: Now, number: u64, parked: &mut BTreeMap<ExportId, u32>) {
        let Some(batch) = self.batches.get_mut(&number) else { return };
        let Some(at) = batch.parks_at else { return };
        if at > now.mono {
            self.wake_at(at);
            return;
        }
        if self.journal.due() > 0 && self.journal.due() + batch.rows.len() > DIRTY_MEMBERS_MAX {
            return;
        }
        batch.parks_at = None;
        let export = batch.export;
        let rows: Vec<(ContactSlot, Tokens, smallvec::SmallVec<[MemberId; 1]>)> = batch
            .rows
            .iter_mut()
            .filter(|row| !row.tokens.is_empty())
            .map(|row| (row.slot, std::mem::take(&mut row.tokens), row.touched.clone()))
            .collect();
        for (slot, tokens, touched) in rows {
            self.settle_with_sharers(export, slot, tokens, &touched);
            *parked.entry(export).or_default() += 1;
        }
    }
}
