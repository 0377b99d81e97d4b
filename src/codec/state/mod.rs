//! State records ⇄ bytes.
//!
//! *Key*: `kind/part/part`, with `/` and `%` of a part written as `%2F` and `%25`, so that a person can read it.
//!
//! *Value*: one byte, the version of the kind's schema, then the Avro binary datum of `schemas/state/<kind>.avsc`. A
//! newer version only appends fields: a reader of version n takes the first fields of a higher version and leaves the
//! rest, so that an upgrade can be rolled back; and it reads a lower one with its own defaults for what is missing.

mod records;

use crate::model::{
    Text,
    batch::BatchName,
    catalog::ClientIdHash,
    state::{StateChange, StateKey, StateValue},
};

use super::binary::{Fault, Reader};

/// The version of every kind's schema that this version of Listkeeper writes.
const SCHEMA_VERSION: u8 = 1;

/// Why a state record cannot be read. It never holds what the record says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateFault {
    /// The key is none of ours.
    #[error("the key of a state record is not one that Listkeeper writes")]
    Key,
    /// The kind is one that a newer version writes.
    #[error("a state record is of the kind `{0}`, which this version does not know: run the version that wrote it")]
    Kind(String),
    /// The value does not follow its schema.
    #[error("a state record of the kind `{kind}` cannot be read: {why}")]
    Value {
        /// The kind.
        kind: &'static str,
        /// What is wrong with the bytes.
        why: &'static str,
    },
}

/// The key's bytes.
#[must_use]
pub fn encode_key(key: &StateKey) -> Vec<u8> {
    let text = match key {
        StateKey::Header => String::from("header"),
        StateKey::Member { export, profile } => format!("member/{}/{}", escape(export), escape(profile)),
        StateKey::Batch { name, chunk } => format!("batch/{}/{chunk}", escape(&name.0)),
        StateKey::Ledger { application } => format!("ledger/{application}"),
        StateKey::Export { export } => format!("export/{}", escape(export)),
        StateKey::Protected { export, bucket } => format!("protected/{}/{bucket}", escape(export)),
        StateKey::Connection { connection } => format!("connection/{}", escape(connection)),
        StateKey::Suppressed { connection, bucket } => format!("suppressed/{}/{bucket}", escape(connection)),
    };
    text.into_bytes()
}

/// Appends the value's bytes.
pub fn encode_value(value: &StateValue, out: &mut Vec<u8>) {
    out.push(SCHEMA_VERSION);
    match value {
        StateValue::Header(header) => records::write_header(out, header),
        StateValue::Member(cut) => records::write_member(out, cut),
        StateValue::Batch(chunk) => records::write_batch(out, chunk),
        StateValue::Ledger(ledger) => records::write_ledger(out, *ledger),
        StateValue::Export(export) => records::write_export(out, export),
        StateValue::Protected(hashes) => records::write_hashes(out, hashes),
        StateValue::Connection(connection) => records::write_connection(out, connection),
        StateValue::Suppressed(bucket) => records::write_suppressed(out, bucket),
    }
}

/// Key and value back to words; no value forgets the key.
///
/// # Errors
/// [`StateFault`]: the state cannot be trusted, and the shard holds.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<StateChange, StateFault> {
    let key = decode_key(key)?;
    let Some(bytes) = value else { return Ok(StateChange { key, value: None }) };
    let mut reader = Reader::new(bytes);
    let kind = kind(&key);
    let read = reader.byte().and_then(|_version| {
        Ok(match &key {
            StateKey::Header => StateValue::Header(records::read_header(&mut reader)?),
            StateKey::Member { .. } => StateValue::Member(records::read_member(&mut reader)?),
            StateKey::Batch { .. } => StateValue::Batch(records::read_batch(&mut reader)?),
            StateKey::Ledger { .. } => StateValue::Ledger(records::read_ledger(&mut reader)?),
            StateKey::Export { .. } => StateValue::Export(records::read_export(&mut reader)?),
            StateKey::Protected { .. } => StateValue::Protected(records::read_hashes(&mut reader)?),
            StateKey::Connection { .. } => StateValue::Connection(records::read_connection(&mut reader)?),
            StateKey::Suppressed { .. } => StateValue::Suppressed(records::read_suppressed(&mut reader)?),
        })
    });
    match read {
        Ok(value) => Ok(StateChange { key, value: Some(value) }),
        Err(fault) => {
            let why = match fault {
                Fault::Short => "it ends within a field",
                Fault::Range => "a number is out of range",
                Fault::Text => "a text is not what its field holds",
            };
            Err(StateFault::Value { kind, why })
        }
    }
}

/// The kind of record that a key names: the first part of the key's bytes, and the name of its schema's file.
#[must_use]
pub const fn kind(key: &StateKey) -> &'static str {
    match key {
        StateKey::Header => "header",
        StateKey::Member { .. } => "member",
        StateKey::Batch { .. } => "batch",
        StateKey::Ledger { .. } => "ledger",
        StateKey::Export { .. } => "export",
        StateKey::Protected { .. } => "protected",
        StateKey::Connection { .. } => "connection",
        StateKey::Suppressed { .. } => "suppressed",
    }
}

fn decode_key(key: &[u8]) -> Result<StateKey, StateFault> {
    let text = std::str::from_utf8(key).map_err(|_| StateFault::Key)?;
    let mut parts = text.split('/');
    let kind = parts.next().unwrap_or_default();
    let mut part = || parts.next().map(unescape).ok_or(StateFault::Key);
    let key = match kind {
        "header" => StateKey::Header,
        "member" => StateKey::Member { export: part()?, profile: part()? },
        "batch" => StateKey::Batch { name: BatchName(part()?), chunk: part()?.parse().map_err(|_| StateFault::Key)? },
        "ledger" => {
            let hash = u64::from_str_radix(&part()?, 16).map_err(|_| StateFault::Key)?;
            StateKey::Ledger { application: ClientIdHash(hash) }
        }
        "export" => StateKey::Export { export: part()? },
        "protected" => StateKey::Protected { export: part()?, bucket: part()?.parse().map_err(|_| StateFault::Key)? },
        "connection" => StateKey::Connection { connection: part()? },
        "suppressed" => StateKey::Suppressed { connection: part()?, bucket: part()?.parse().map_err(|_| StateFault::Key)? },
        other if other.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
            return Err(StateFault::Kind(other.to_owned()));
        }
        _ => return Err(StateFault::Key),
    };
    if parts.next().is_some() {
        return Err(StateFault::Key);
    }
    Ok(key)
}

fn escape(part: &str) -> std::borrow::Cow<'_, str> {
    if part.contains(['/', '%']) { part.replace('%', "%25").replace('/', "%2F").into() } else { part.into() }
}

fn unescape(part: &str) -> Text {
    if part.contains('%') { Text::from(part.replace("%2F", "/").replace("%25", "%")) } else { Text::from(part) }
}

#[cfg(test)]
mod tests;
