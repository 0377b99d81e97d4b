//! Writer schemas by id: bounded, so that a producer that cycles ids cannot fill the memory.

use std::collections::{BTreeMap, VecDeque};

use super::{avro, wire_format::SchemaId};

/// Schemas (and ids without one) that are kept; the oldest goes first.
const SCHEMAS_MAX: usize = 512;

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
pub(super) enum Known {
    /// Its schema, ready to read.
    Writer(Box<avro::Writer>),
    /// It has a schema that cannot be used.
    Unusable(SchemaFault),
    /// The registry does not know it.
    Unknown,
}

/// What is known of ids.
#[derive(Debug, Default)]
pub(super) struct SchemaCache {
    known: BTreeMap<SchemaId, Known>,
    order: VecDeque<SchemaId>,
}

impl SchemaCache {
    pub(super) fn find(&mut self, id: SchemaId) -> Option<&mut Known> {
        self.known.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: SchemaId, known: Known) {
        if self.known.insert(id, known).is_none() {
            self.order.push_back(id);
        }
        if self.known.len() > SCHEMAS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
