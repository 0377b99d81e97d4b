//! The file that an import uploads.

use crate::model::{Text, batch::ImportRows};

use super::limits::{CUSTOM_FIELD_CHARACTERS_MAX, IMPORT_BYTES_MAX, IMPORT_LINES_MAX, NAME_CHARACTERS_MAX};

/// The rows as CSV: a header line, then one line for each contact, in their order.
///
/// Columns that no row fills are left out, because an import updates what it names. Texts longer than the vendor's
/// fields are cut at a character.
#[must_use]
pub fn encode(rows: &ImportRows) -> Vec<u8> {
    let mut file = ::csv::WriterBuilder::new()
        .terminator(::csv::Terminator::Any(b'\n'))
        .from_writer(Vec::with_capacity(rows.rows.len() * 64));
    let mut header = vec![String::from("email")];
    if rows.has_first_name {
        header.push(String::from("first_name"));
    }
    if rows.has_last_name {
        header.push(String::from("last_name"));
    }
    header.extend(rows.custom_fields.iter().map(|name| format!("cf:{name}")));
    let mut written = file.write_record(&header);
    for (address, row) in rows.rows.iter() {
        let first = rows.has_first_name.then(|| cut(row.first_name.as_ref(), NAME_CHARACTERS_MAX));
        let last = rows.has_last_name.then(|| cut(row.last_name.as_ref(), NAME_CHARACTERS_MAX));
        let custom = (0..rows.custom_fields.len())
            .map(|index| cut(row.custom.get(index).and_then(Option::as_ref), CUSTOM_FIELD_CHARACTERS_MAX));
        let fields = std::iter::once(address.as_str()).chain(first).chain(last).chain(custom);
        written = written.and_then(|()| file.write_record(fields));
    }
    let bytes = written.map_err(|_| ()).and_then(|()| file.into_inner().map_err(|_| ()));
    // Writing to memory with equal numbers of fields cannot fail.
    let bytes = bytes.unwrap_or_else(|()| unreachable!("CSV to memory"));
    debug_assert!(bytes.len() < IMPORT_BYTES_MAX, "an import of {} bytes", bytes.len());
    debug_assert!(rows.rows.len() < IMPORT_LINES_MAX, "an import of {} rows", rows.rows.len());
    bytes
}

fn cut(text: Option<&Text>, characters_max: usize) -> &str {
    let Some(text) = text else { return "" };
    text.char_indices().nth(characters_max).map_or(text.as_str(), |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::row::Row;
    use proptest::prelude::*;

    fn rows(rows: Vec<(Text, Row)>, custom: &[&str]) -> ImportRows {
        ImportRows {
            custom_fields: custom.iter().map(|name| Text::from(*name)).collect(),
            has_first_name: rows.iter().any(|(_, row)| row.first_name.is_some()),
            has_last_name: rows.iter().any(|(_, row)| row.last_name.is_some()),
            rows: Arc::from(rows),
        }
    }

    #[test]
    fn only_columns_that_are_filled() {
        let row = Row { first_name: Some("Ana, \"A\"".into()), last_name: None, custom: vec![Some("gold".into())] };
        let file = encode(&rows(vec![("a@example.com".into(), row), ("b@example.com".into(), Row::default())], &["tier"]));
        assert_eq!(
            String::from_utf8(file).unwrap(),
            "email,first_name,cf:tier\na@example.com,\"Ana, \"\"A\"\"\",gold\nb@example.com,,\n"
        );
    }

    proptest! {
        #[test]
        fn a_row_is_never_larger_than_it_was_counted(name in ".{0,80}", value in ".{0,300}") {
            let row = Row { first_name: Some(name.as_str().into()), last_name: None, custom: vec![Some(value.as_str().into())] };
            let counted = row.size_bytes_max("a@example.com");
            let header = "email,first_name,cf:tier\n".len();
            let file = encode(&rows(vec![("a@example.com".into(), row)], &["tier"]));
            prop_assert!(file.len() - header <= counted, "{} > {counted}", file.len() - header);
        }
    }
}
