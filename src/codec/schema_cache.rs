//! What is known of schema ids: bounded, so that a producer that cycles ids cannot fill the memory, and kept apart by kind, so that ids
//! nobody knows never drive out a schema that is in use.
//!
//! An id that the registry did not know may be registered later, so "unknown" expires. This layer has no clock, so it expires by use: it
//! serves for some records, then the registry is asked again, and twice as long each time that the answer is the same. A producer's wait for
//! the registry so costs the logarithm of its records, and once the schema is there at most as many records again are refused as were before.
//! Whoever has a clock calls [`super::EventDecoder::forget_unknown_schemas`] now and then, which is sharper.

use std::collections::{BTreeMap, VecDeque};

use super::{avro, wire_format::SchemaId};

/// Entries of each kind; the oldest goes first.
const KEPT_MAX: usize = 512;
/// How many records the first "unknown" serves for.
const UNKNOWN_RECORDS: u64 = 100;
/// How many records an "unknown" serves for at most.
const UNKNOWN_RECORDS_MAX: u64 = 1 << 20;

/// Why a schema cannot be used. It never holds the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// It is not Avro.
    #[error("it is no Avro schema")]
    NotAvro,
    /// It has no field where the mapping names one that every event needs.
    #[error("it has no field `{0}`, which the mapping names: correct `source.fields`")]
    NoField(String),
}

/// What is known of an id.
#[derive(Debug)]
pub(super) enum Known<'c> {
    /// Its schema, ready to read.
    Writer(&'c avro::Writer),
    /// It has a schema that cannot be used.
    Unusable(&'c SchemaFault),
    /// The registry does not know it.
    Unknown,
}

/// A map that forgets its oldest entry when it is full.
#[derive(Debug)]
struct Bounded<T> {
    entries: BTreeMap<SchemaId, T>,
    order: VecDeque<SchemaId>,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<T> Bounded<T> {
    fn insert(&mut self, id: SchemaId, entry: T) {
        if self.entries.insert(id, entry).is_none() {
            self.order.push_back(id);
        }
        if self.entries.len() > KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    fn remove(&mut self, id: SchemaId) {
        if self.entries.remove(&id).is_some() {
            self.order.retain(|kept| *kept != id);
        }
    }
}

/// An id that the registry did not know when it was asked.
#[derive(Debug, Clone, Copy)]
struct Unknown {
    /// Records that the last answer served for.
    serves: u64,
    /// Those of them that are left.
    left: u64,
}

/// What is known of ids.
#[derive(Debug, Default)]
pub(super) struct SchemaCache {
    writers: Bounded<Box<avro::Writer>>,
    unusable: Bounded<SchemaFault>,
    unknown: Bounded<Unknown>,
}

impl SchemaCache {
    /// What is known of the id of a record that is now decoded; `None`: the registry is to be asked.
    pub(super) fn find(&mut self, id: SchemaId) -> Option<Known<'_>> {
        if let Some(writer) = self.writers.entries.get(&id) {
            return Some(Known::Writer(writer));
        }
        if let Some(fault) = self.unusable.entries.get(&id) {
            return Some(Known::Unusable(fault));
        }
        let unknown = self.unknown.entries.get_mut(&id)?;
        unknown.left = unknown.left.checked_sub(1)?;
        Some(Known::Unknown)
    }

    pub(super) fn insert(&mut self, id: SchemaId, writer: Result<avro::Writer, SchemaFault>) {
        self.unknown.remove(id);
        match writer {
            Ok(writer) => self.writers.insert(id, Box::new(writer)),
            Err(fault) => self.unusable.insert(id, fault),
        }
    }

    /// The registry does not know the id.
    pub(super) fn unknown(&mut self, id: SchemaId) {
        let before = self.unknown.entries.get(&id).map(|unknown| unknown.serves);
        let serves = before.map_or(UNKNOWN_RECORDS, |serves| (serves * 2).min(UNKNOWN_RECORDS_MAX));
        self.unknown.insert(id, Unknown { serves, left: serves });
    }

    pub(super) fn forget_unknown(&mut self) {
        self.unknown = Bounded::default();
    }
}
