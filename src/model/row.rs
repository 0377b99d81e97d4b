//! What is sent of a contact.

use serde::{Deserialize, Serialize};

use super::{Text, hash};

/// The fields of one contact beside its address, as an import sends them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    /// First name; at most 50 characters are sent.
    pub first_name: Option<Text>,
    /// Last name; at most 50 characters are sent.
    pub last_name: Option<Text>,
    /// Values of the export's custom fields, in the order in which its mapping names them.
    pub custom: Vec<Option<Text>>,
}

impl Row {
    /// True when there is nothing but the address to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first_name.is_none() && self.last_name.is_none() && self.custom.iter().all(Option::is_none)
    }

    /// A hash that is the same in every version of Listkeeper: rows with equal hashes are not sent twice.
    #[must_use]
    pub fn hash(&self) -> u64 {
        hash::row_hash(self)
    }

    /// Upper bound of the bytes of this row as a CSV line, with the address, quotes, commas and line end.
    #[must_use]
    pub fn size_bytes_max(&self, address: &str) -> usize {
        let field = |text: &str| text.len() + 3 + text.bytes().filter(|byte| *byte == b'"').count();
        let texts = [&self.first_name, &self.last_name].into_iter().chain(&self.custom);
        field(address) + 2 + texts.map(|text| text.as_deref().map_or(1, field)).sum::<usize>()
    }
}
