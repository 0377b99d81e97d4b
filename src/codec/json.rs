//! JSON events, for producers without Avro.

use serde_json::Value;

use crate::model::{Text, event::DecodeFault, time::UnixMillis};

use super::{
    decoder::{Fault, Picked},
    mapping::FieldPaths,
};

pub(super) fn pick(bytes: &[u8], paths: &FieldPaths) -> Result<Picked, Fault> {
    // The parser's message may quote the record.
    let value: Value = serde_json::from_slice(bytes).map_err(|_| Fault::new(DecodeFault::Malformed, "the value is no JSON"))?;
    if !value.is_object() {
        return Err(Fault::new(DecodeFault::Malformed, "the value is no JSON object"));
    }
    let at = |path: &Text| path.split('.').try_fold(&value, |value, part| value.get(part));
    Ok(Picked {
        profile_id: at(&paths.profile_id).and_then(text),
        segment_id: at(&paths.segment_id).and_then(text),
        change: at(&paths.change).and_then(text),
        occurred_at: paths.occurred_at.as_ref().and_then(at).and_then(millis),
        values: paths.mapped.iter().map(|path| at(path).and_then(text)).collect(),
    })
}

fn text(value: &Value) -> Option<Text> {
    match value {
        Value::String(text) => Some(Text::from(text.as_str())),
        Value::Number(number) => Some(compact_str::format_compact!("{number}")),
        Value::Bool(flag) => Some(compact_str::format_compact!("{flag}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn millis(value: &Value) -> Option<UnixMillis> {
    value.as_i64().map(UnixMillis).or_else(|| value.as_str().and_then(timestamp))
}

/// RFC 3339 text, or a date, which begins at midnight of UTC.
pub(super) fn timestamp(text: &str) -> Option<UnixMillis> {
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp());
    text.parse::<jiff::Timestamp>().ok().or_else(date).map(|at| UnixMillis(at.as_millisecond()))
}
