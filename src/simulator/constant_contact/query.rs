//! Query parameters, and cursors: base64 of `limit=5&next=<uuid>` with whatever filters the first page had.

use std::borrow::Cow;

use uuid::Uuid;

use super::answer::Answer;

/// The parameters of a request; those of a cursor replace the rest, because the vendor's next links carry it alone.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(raw: Option<&str>) -> Result<Self, Answer> {
        let pairs = pairs_of(raw.unwrap_or_default().as_bytes());
        let Some((_, cursor)) = pairs.iter().find(|(name, _)| name == "cursor") else { return Ok(Self { pairs }) };
        let inner = decode_base64(cursor).ok_or_else(|| Answer::invalid("cursor does not have a valid value"))?;
        Ok(Self { pairs: pairs_of(&inner) })
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The values of a parameter, whether separated by commas or repeated.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        self.pairs
            .iter()
            .filter(|(key, _)| key == name)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// Refuses parameters that the endpoint does not document.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Answer> {
        match self.pairs.iter().find(|(name, _)| name != "next" && !known.contains(&name.as_str())) {
            Some((name, _)) => Err(Answer::invalid(&format!("{name} is not a parameter of this method"))),
            None => Ok(()),
        }
    }

    pub(super) fn limit(&self, max: usize) -> Result<usize, Answer> {
        let Some(text) = self.value("limit") else { return Ok(50) };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            Ok(_) | Err(_) => Err(Answer::invalid("limit does not have a valid value")),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Answer> {
        match self.value(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Answer::invalid(&format!("{name} does not have a valid value"))),
        }
    }

    /// Where a page begins: the id in the cursor.
    pub(super) fn next(&self) -> Result<Option<Uuid>, Answer> {
        self.value("next").map(|text| text.parse().map_err(|_| Answer::invalid("cursor does not have a valid value"))).transpose()
    }

    /// The link to the page that begins with `next`.
    pub(super) fn next_href(&self, path: &str, limit: usize, next: Uuid) -> String {
        let mut inner = url::form_urlencoded::Serializer::new(format!("limit={limit}&next={next}"));
        for (name, value) in &self.pairs {
            if name != "limit" && name != "next" {
                inner.append_pair(name, value);
            }
        }
        format!("{path}?cursor={}", encode_base64(inner.finish().as_bytes()))
    }
}

/// The pairs of a query string or of a form.
pub(super) fn pairs_of(raw: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(raw).map(|(name, value)| (Cow::into_owned(name), Cow::into_owned(value))).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
pub(super) fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, &byte| (word << 8) | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                let sextet = (word >> (18 - 6 * place)) & 63;
                text.push(char::from(ALPHABET[sextet as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// The bytes of base64, with or without padding.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0_u32);
    for symbol in text.trim_end_matches('=').bytes() {
        let sextet = u32::try_from(ALPHABET.iter().position(|&known| known == symbol)?).ok()?;
        word = (word << 6) | sextet;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((word >> bits) & 255).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_others_write_it() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("limit=5&next=fb", "bGltaXQ9NSZuZXh0PWZi")]
        {
            assert_eq!(encode_base64(plain.as_bytes()), coded);
            assert_eq!(decode_base64(coded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(decode_base64("no base64!"), None);
    }
}
