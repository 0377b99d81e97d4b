//! Records of the source → events.

use crate::model::{
    Text,
    event::{ChangeKind, DecodeFault, RecordContent, SegmentEvent},
    time::UnixMillis,
};

use super::{
    avro, json,
    mapping::FieldPaths,
    schema_cache::{Known, SchemaCache, SchemaFault},
    wire_format::{self, SchemaId},
};

/// The largest value that is decoded, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// How events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventFormat {
    /// Avro in Confluent's wire format, with the writer's schema in a registry.
    AvroRegistry,
    /// Plain Avro datums of one schema.
    AvroFile {
        /// The schema, as JSON.
        schema: String,
    },
    /// JSON objects.
    Json,
}

/// What a record's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Understood.
    Content(RecordContent),
    /// The writer's schema is needed first: [`EventDecoder::add_schema`], then decode again.
    NeedsSchema(SchemaId),
}

/// Why a record cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: DecodeFault,
    /// What was wrong and where, without any value of the record.
    pub detail: Text,
}

impl Fault {
    pub(super) fn new(kind: DecodeFault, detail: impl Into<Text>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// What a record gave, before it is an event.
#[derive(Debug, Default)]
pub(super) struct Picked {
    pub(super) profile_id: Option<Text>,
    pub(super) segment_id: Option<Text>,
    pub(super) change: Option<Text>,
    pub(super) occurred_at: Option<UnixMillis>,
    pub(super) values: Vec<Option<Text>>,
}

#[derive(Debug)]
enum Format {
    Registry(SchemaCache),
    File(Box<avro::Writer>),
    Json,
}

/// Decodes records of one source.
#[derive(Debug)]
pub struct EventDecoder {
    paths: FieldPaths,
    format: Format,
}

impl EventDecoder {
    /// A decoder for a mapping and a format.
    ///
    /// # Errors
    /// The schema of a file is none, or does not have what every event needs.
    pub fn new(paths: FieldPaths, format: EventFormat) -> Result<Self, SchemaFault> {
        let format = match format {
            EventFormat::AvroRegistry => Format::Registry(SchemaCache::default()),
            EventFormat::AvroFile { schema } => Format::File(Box::new(avro::Writer::new(&schema, &[], &paths)?)),
            EventFormat::Json => Format::Json,
        };
        Ok(Self { paths, format })
    }

    /// Takes a writer's schema with those that it refers to.
    ///
    /// # Errors
    /// It is no schema. Records of this id are then [`DecodeFault::UnusableSchema`].
    pub fn add_schema(&mut self, id: SchemaId, schema: &str, references: &[String]) -> Result<(), SchemaFault> {
        match &mut self.format {
            Format::Registry(cache) => {
                let writer = avro::Writer::new(schema, references, &self.paths);
                let fault = writer.as_ref().err().cloned();
                cache.insert(id, writer);
                fault.map_or(Ok(()), Err)
            }
            Format::File(_) | Format::Json => Ok(()),
        }
    }

    /// The registry does not know this id. The next records of it are [`DecodeFault::UnknownSchema`]; after some, their number doubling with
    /// each such answer, it is [`Decoded::NeedsSchema`] again.
    pub fn schema_unknown(&mut self, id: SchemaId) {
        if let Format::Registry(cache) = &mut self.format {
            cache.unknown(id);
        }
    }

    /// Lets the registry be asked again for every id that it did not know: for a caller with a clock, once a minute or so.
    pub fn forget_unknown_schemas(&mut self) {
        if let Format::Registry(cache) = &mut self.format {
            cache.forget_unknown();
        }
    }

    /// What a record's key and value say.
    ///
    /// # Errors
    /// [`Fault`]: the record is to become a dead letter.
    pub fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded, Fault> {
        let key = match key {
            None => None,
            Some(key) => {
                Some(wire_format::key_text(key).ok_or_else(|| Fault::new(DecodeFault::Malformed, "the key is no text"))?)
            }
        };
        let Some(value) = value else {
            let key = key.filter(|key| !key.is_empty());
            let profile_id =
                key.ok_or_else(|| Fault::new(DecodeFault::NoKey, "a record without key and value names no profile"))?;
            if profile_id.starts_with('\0') {
                return Err(no_profile());
            }
            return Ok(Decoded::Content(RecordContent::Erasure { profile_id: profile_id.into() }));
        };
        if value.len() > VALUE_BYTES_MAX {
            return Err(Fault::new(DecodeFault::TooLarge, "the value is larger than 1 MiB"));
        }
        let picked = match &mut self.format {
            Format::Json => json::pick(value, &self.paths)?,
            Format::File(writer) => writer.pick(value)?,
            Format::Registry(cache) => {
                let (id, datum) = wire_format::split(value).ok_or_else(|| {
                    Fault::new(DecodeFault::WireFormat, "the value does not begin with a zero byte and a schema id")
                })?;
                match cache.find(id) {
                    None => return Ok(Decoded::NeedsSchema(id)),
                    Some(Known::Writer(writer)) => writer.pick(datum)?,
                    Some(Known::Unusable(fault)) => {
                        let detail = compact_str::format_compact!("schema {}: {fault}", id.0);
                        return Err(Fault::new(DecodeFault::UnusableSchema, detail));
                    }
                    Some(Known::Unknown) => {
                        let detail = compact_str::format_compact!("the schema registry does not know the schema id {}", id.0);
                        return Err(Fault::new(DecodeFault::UnknownSchema, detail));
                    }
                }
            }
        };
        self.event(key, picked).map(|event| Decoded::Content(RecordContent::Event(event)))
    }

    fn event(&self, key: Option<&str>, picked: Picked) -> Result<SegmentEvent, Fault> {
        let missing =
            |path: &Text| Fault::new(DecodeFault::MissingField, compact_str::format_compact!("`{path}` is missing or null"));
        let profile_id = picked.profile_id.filter(|id| !id.is_empty()).ok_or_else(|| missing(&self.paths.profile_id))?;
        if profile_id.starts_with('\0') {
            return Err(no_profile());
        }
        if key.is_some_and(|key| key != profile_id) {
            let detail = compact_str::format_compact!("the key is not the profile id in `{}`", self.paths.profile_id);
            return Err(Fault::new(DecodeFault::KeyMismatch, detail));
        }
        let word = picked.change.ok_or_else(|| missing(&self.paths.change))?;
        let change = self.paths.changes.kind(&word).ok_or_else(|| {
            let detail = compact_str::format_compact!("`{}` is none of the changes that are mapped", self.paths.change);
            Fault::new(DecodeFault::UnknownChange, detail)
        })?;
        if picked.segment_id.is_none() && change != ChangeKind::Updated {
            return Err(missing(&self.paths.segment_id));
        }
        Ok(SegmentEvent {
            profile_id,
            segment_id: picked.segment_id,
            change,
            occurred_at: picked.occurred_at,
            values: picked.values.into_boxed_slice(),
        })
    }
}

/// Such ids are those of members that stand for addresses which a list had before.
fn no_profile() -> Fault {
    Fault::new(DecodeFault::Malformed, "the profile's id begins with a zero character")
}

#[cfg(test)]
mod tests;
