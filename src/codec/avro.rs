//! Avro events: read with the writer's schema alone, then picked by paths that were resolved once for that schema.
//!
//! Why no reader schema: resolving each value against one costs three to five times as much as reading it, and a
//! mapping names all that is wanted. Added fields are passed over; what a schema does not have is absent.

use std::collections::BTreeMap;

use apache_avro::{Schema, reader::datum::GenericDatumReader, schema::RecordSchema, types::Value};

use crate::model::{Text, event::DecodeFault, time::UnixMillis};

use super::{
    decoder::{Fault, Picked},
    mapping::FieldPaths,
    schema_cache::SchemaFault,
};

struct Schemas {
    schema: Schema,
    references: Vec<Schema>,
}

self_cell::self_cell!(
    struct Reader {
        owner: Schemas,
        #[covariant]
        dependent: GenericDatumReader,
    }
);

/// One writer's schema, ready to read.
pub(super) struct Writer {
    reader: Reader,
    profile_id: Path,
    segment_id: Option<Path>,
    change: Path,
    occurred_at: Option<Path>,
    mapped: Vec<Option<Path>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("profile_id", &self.profile_id).field("mapped", &self.mapped).finish_non_exhaustive()
    }
}

/// The way to a value, from the outermost record on.
#[derive(Debug)]
struct Path(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// The field of a record.
    Field(usize),
    /// The entry of a map.
    Key(String),
}

impl Writer {
    pub(super) fn new(schema: &str, references: &[String], paths: &FieldPaths) -> Result<Self, SchemaFault> {
        let (schema, references) = Schema::parse_str_with_list(schema, references).map_err(|_| SchemaFault::NotAvro)?;
        let mut names = BTreeMap::new();
        for schema in references.iter().chain([&schema]) {
            collect_names(schema, &mut names, 0);
        }
        let find = |path: &Text| resolve(&schema, &names, path);
        let need = |path: &Text| find(path).ok_or_else(|| SchemaFault::NoField(path.to_string()));
        let profile_id = need(&paths.profile_id)?;
        let change = need(&paths.change)?;
        let segment_id = Some(need(&paths.segment_id)?);
        let occurred_at = paths.occurred_at.as_ref().and_then(find);
        let mapped = paths.mapped.iter().map(find).collect();
        drop(names);
        let reader = Reader::try_new(Schemas { schema, references }, |schemas| {
            let all: Vec<&Schema> = schemas.references.iter().chain([&schemas.schema]).collect();
            let builder = GenericDatumReader::builder(&schemas.schema).writer_schemata(all);
            builder.and_then(|builder| builder.build()).map_err(|_| SchemaFault::NotAvro)
        })?;
        Ok(Self { reader, profile_id, segment_id, change, occurred_at, mapped })
    }

    pub(super) fn pick(&self, mut datum: &[u8]) -> Result<Picked, Fault> {
        // The crate's errors print schemas and values: nothing of them is kept.
        let read = self.reader.borrow_dependent().read_value(&mut datum);
        let value = read.map_err(|_| Fault::new(DecodeFault::Malformed, "the bytes do not follow the writer's schema"))?;
        if !datum.is_empty() {
            return Err(Fault::new(DecodeFault::Malformed, "bytes are left behind the datum"));
        }
        Ok(Picked {
            profile_id: find(&value, &self.profile_id).and_then(text),
            segment_id: self.segment_id.as_ref().and_then(|path| find(&value, path)).and_then(text),
            change: find(&value, &self.change).and_then(text),
            occurred_at: self.occurred_at.as_ref().and_then(|path| find(&value, path)).and_then(millis),
            values: self.mapped.iter().map(|path| path.as_ref().and_then(|path| find(&value, path)).and_then(text)).collect(),
        })
    }
}

/// Deeper than this, a schema is somebody's mistake.
const DEPTH_MAX: usize = 32;

fn collect_names<'s>(schema: &'s Schema, names: &mut BTreeMap<String, &'s RecordSchema>, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    if let Schema::Record(record) = schema {
        names.insert(record.name.to_string(), record);
        for field in &record.fields {
            collect_names(&field.schema, names, depth + 1);
        }
    } else if let Schema::Union(union) = schema {
        for variant in union.variants() {
            collect_names(variant, names, depth + 1);
        }
    } else if let Schema::Map(map) = schema {
        collect_names(&map.types, names, depth + 1);
    } else if let Schema::Array(array) = schema {
        collect_names(&array.items, names, depth + 1);
    }
}

/// The way that a dotted path takes through a schema; `None` where the schema has no such field.
fn resolve(schema: &Schema, names: &BTreeMap<String, &RecordSchema>, path: &str) -> Option<Path> {
    let mut steps = Vec::new();
    let mut at = Some(schema);
    let mut parts = path.split('.');
    let mut rest = parts.next();
    while let Some(part) = rest {
        // The rest of a path below a map's value is another step; below a map, any key will do.
        let container = at.and_then(|schema| container(schema, names))?;
        match container {
            Container::Record(record) => {
                let index = record.lookup.get(part).copied()?;
                steps.push(Step::Field(index));
                at = record.fields.get(index).map(|field| &field.schema);
            }
            Container::Map(values) => {
                steps.push(Step::Key(part.to_owned()));
                at = Some(values);
            }
        }
        rest = parts.next();
    }
    Some(Path(steps))
}

enum Container<'s> {
    Record(&'s RecordSchema),
    Map(&'s Schema),
}

/// The record or map that a schema is, or that is the first of a union.
fn container<'s>(schema: &'s Schema, names: &BTreeMap<String, &'s RecordSchema>) -> Option<Container<'s>> {
    if let Schema::Record(record) = schema {
        Some(Container::Record(record))
    } else if let Schema::Map(map) = schema {
        Some(Container::Map(&map.types))
    } else if let Schema::Ref { name } = schema {
        names.get(&name.to_string()).map(|record| Container::Record(record))
    } else if let Schema::Union(union) = schema {
        union
            .variants()
            .iter()
            .filter(|variant| !matches!(variant, Schema::Union(_)))
            .find_map(|variant| container(variant, names))
    } else {
        None
    }
}

fn find<'v>(value: &'v Value, path: &Path) -> Option<&'v Value> {
    let mut at = inner(value);
    for step in &path.0 {
        at = match (step, at) {
            (Step::Field(index), Value::Record(fields)) => inner(&fields.get(*index)?.1),
            (Step::Key(key), Value::Map(entries)) => inner(entries.get(key)?),
            (Step::Field(_) | Step::Key(_), _) => return None,
        };
    }
    Some(at)
}

fn inner(value: &Value) -> &Value {
    if let Value::Union(_, value) = value { inner(value) } else { value }
}

/// A scalar as text; null and whatever else are absent.
fn text(value: &Value) -> Option<Text> {
    if let Value::String(text) | Value::Enum(_, text) = value {
        Some(Text::from(text.as_str()))
    } else if let Value::Int(number) | Value::Date(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Long(number) | Value::TimestampMillis(number) | Value::TimestampMicros(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Boolean(flag) = value {
        Some(compact_str::format_compact!("{flag}"))
    } else if let Value::Float(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Double(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Uuid(id) = value {
        Some(compact_str::format_compact!("{id}"))
    } else {
        None
    }
}

fn millis(value: &Value) -> Option<UnixMillis> {
    if let Value::TimestampMillis(ms) | Value::Long(ms) | Value::LocalTimestampMillis(ms) = value {
        Some(UnixMillis(*ms))
    } else if let Value::TimestampMicros(us) | Value::LocalTimestampMicros(us) = value {
        Some(UnixMillis(us.div_euclid(1_000)))
    } else if let Value::String(text) = value {
        super::json::timestamp(text)
    } else {
        None
    }
}
