//! Confluent's wire format: a zero byte, the schema's id in four bytes (big-endian), then the Avro datum.

/// A schema's id in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

const MAGIC: u8 = 0;

/// The schema's id and the datum; `None` when the bytes are not in the wire format.
pub(super) fn split(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    let (head, datum) = bytes.split_first_chunk::<5>()?;
    let [magic, id @ ..] = head;
    (*magic == MAGIC).then(|| (SchemaId(u32::from_be_bytes(*id)), datum))
}

/// Appends the head of the wire format.
pub(super) fn write_head(out: &mut Vec<u8>, id: SchemaId) {
    out.push(MAGIC);
    out.extend_from_slice(&id.0.to_be_bytes());
}

/// A record's key as text: plain, or an Avro string in the wire format.
pub(super) fn key_text(key: &[u8]) -> Option<&str> {
    if let Some((_, datum)) = split(key)
        && let Some((len, rest)) = length(datum)
        && rest.len() == len
    {
        return std::str::from_utf8(rest).ok();
    }
    std::str::from_utf8(key).ok()
}

/// The length before an Avro string.
fn length(datum: &[u8]) -> Option<(usize, &[u8])> {
    let mut reader = super::binary::Reader::new(datum);
    let len = reader.number().ok()?;
    Some((len, reader.rest()))
}
