//! Hashes that are written down: XXH3 without a seed, the same in every version and on every machine.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::row::Row;

/// Hash of a text that names something: a client id, an address.
#[must_use]
pub fn text_hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// Hash of a record's key and value; absent and empty differ.
#[must_use]
pub fn record_hash(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = Xxh3::new();
    for part in [key, value] {
        match part {
            Some(bytes) => {
                hasher.update(&[1]);
                hasher.update(&bytes.len().to_le_bytes());
                hasher.update(bytes);
            }
            None => hasher.update(&[0]),
        }
    }
    hasher.digest()
}

/// Hash of what an import sends of a contact beside its address.
#[must_use]
pub fn row_hash(row: &Row) -> u64 {
    if row.is_empty() {
        return 0;
    }
    let mut hasher = Xxh3::new();
    for text in [&row.first_name, &row.last_name].into_iter().chain(&row.custom) {
        match text {
            Some(text) => {
                hasher.update(&[1]);
                hasher.update(&text.len().to_le_bytes());
                hasher.update(text.as_bytes());
            }
            None => hasher.update(&[0]),
        }
    }
    hasher.digest()
}
