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
enum Path {
    /// The value is here.
    Here,
    /// In the field of a record.
    Field(usize, Box<Path>),
    /// In the entry of a map; any key will do.
    Key(String, Box<Path>),
    /// In the one variant of a union that has a way, as where a value may be null.
    Only(u32, Box<Path>),
    /// In one of a union's variants, each of which has its own way, or none.
    Variant(Vec<Option<Path>>),
}

impl Writer {
    pub(super) fn new(schema: &str, references: &[String], paths: &FieldPaths) -> Result<Self, SchemaFault> {
        let (schema, references) = Schema::parse_str_with_list(schema, references).map_err(|_| SchemaFault::NotAvro)?;
        let mut names = BTreeMap::new();
        for schema in references.iter().chain([&schema]) {
            collect_names(schema, &mut names, 0);
        }
        let find = |path: &Text| resolve(&schema, &names, path.split('.'));
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

/// The way that a path takes through a schema; `None` where no variant of the schema has such a field.
fn resolve<'p>(
    schema: &Schema,
    names: &BTreeMap<String, &RecordSchema>,
    mut parts: impl Iterator<Item = &'p str> + Clone,
) -> Option<Path> {
    if let Schema::Union(union) = schema {
        // A union holds no union, so that each step further uses up a part of the path.
        let ways: Vec<Option<Path>> = union.variants().iter().map(|variant| resolve(variant, names, parts.clone())).collect();
        return match ways.iter().flatten().count() {
            0 => None,
            1 => (0..).zip(ways).find_map(|(variant, way)| Some(Path::Only(variant, Box::new(way?)))),
            _ => Some(Path::Variant(ways)),
        };
    }
    let Some(part) = parts.next() else { return Some(Path::Here) };
    if let Schema::Map(map) = schema {
        return Some(Path::Key(part.to_owned(), Box::new(resolve(&map.types, names, parts)?)));
    }
    let record = if let Schema::Record(record) = schema {
        record
    } else if let Schema::Ref { name } = schema {
        names.get(&name.to_string())?
    } else {
        return None;
    };
    let index = record.lookup.get(part).copied()?;
    Some(Path::Field(index, Box::new(resolve(&record.fields.get(index)?.schema, names, parts)?)))
}

fn find<'v>(mut value: &'v Value, mut path: &Path) -> Option<&'v Value> {
    loop {
        (value, path) = match (path, value) {
            (Path::Here, value) => return Some(value),
            (Path::Field(index, path), Value::Record(fields)) => (&fields.get(*index)?.1, path.as_ref()),
            (Path::Key(key, path), Value::Map(entries)) => (entries.get(key)?, path.as_ref()),
            (Path::Only(variant, path), Value::Union(found, value)) if found == variant => (value.as_ref(), path.as_ref()),
            (Path::Variant(ways), Value::Union(variant, value)) => (value.as_ref(), ways.get(*variant as usize)?.as_ref()?),
            (Path::Field(..) | Path::Key(..) | Path::Only(..) | Path::Variant(_), _) => return None,
        }
    }
}

/// A scalar as text, times as a person writes them; null and whatever else are absent.
fn text(value: &Value) -> Option<Text> {
    if let Value::String(text) | Value::Enum(_, text) = value {
        Some(Text::from(text.as_str()))
    } else if let Value::Int(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Long(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Boolean(flag) = value {
        Some(compact_str::format_compact!("{flag}"))
    } else if let Value::Float(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Double(number) = value {
        Some(compact_str::format_compact!("{number}"))
    } else if let Value::Uuid(id) = value {
        Some(compact_str::format_compact!("{id}"))
    } else if let Value::Date(_) = value {
        let at = jiff::Timestamp::from_millisecond(millis(value)?.0).ok()?;
        Some(compact_str::format_compact!("{}", at.to_zoned(jiff::tz::TimeZone::UTC).date()))
    } else {
        let at = jiff::Timestamp::from_millisecond(logical_millis(value)?).ok()?;
        Some(compact_str::format_compact!("{at}"))
    }
}

/// Milliseconds since 1970 of a value whose type says that it is a time.
fn logical_millis(value: &Value) -> Option<i64> {
    if let Value::TimestampMillis(ms) | Value::LocalTimestampMillis(ms) = value {
        Some(*ms)
    } else if let Value::TimestampMicros(us) | Value::LocalTimestampMicros(us) = value {
        Some(us.div_euclid(1_000))
    } else if let Value::TimestampNanos(ns) | Value::LocalTimestampNanos(ns) = value {
        Some(ns.div_euclid(1_000_000))
    } else if let Value::Date(days) = value {
        Some(i64::from(*days) * MS_PER_DAY)
    } else {
        None
    }
}

const MS_PER_DAY: i64 = 86_400_000;

/// A time: of a logical type, milliseconds since 1970 as a long, or text.
fn millis(value: &Value) -> Option<UnixMillis> {
    if let Value::Long(ms) = value {
        Some(UnixMillis(*ms))
    } else if let Value::String(text) = value {
        super::json::timestamp(text)
    } else {
        logical_millis(value).map(UnixMillis)
    }
}
