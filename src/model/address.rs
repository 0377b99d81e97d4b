//! E-mail addresses in the one form in which they are compared.

use super::Text;

/// The longest address that an import takes, in bytes (`JsonImportContact.email`, maxLength 50, and 80 for contacts:
/// the vendor's documents disagree, so the longer is let through and the vendor's answer decides).
pub const ADDRESS_BYTES_MAX: usize = 80;

/// Why a text is no address that could be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressFault {
    /// Nothing but white space.
    Empty,
    /// Longer than [`ADDRESS_BYTES_MAX`].
    TooLong,
    /// No `@`, nothing before it, or no complete domain behind it.
    Incomplete,
    /// A space, comma, bracket, quote or control character, which the vendor refuses.
    Character,
    /// The domain has no ASCII form (IDNA).
    Domain,
}

/// The address trimmed, in lower case, with its domain in ASCII form; or why it cannot be sent.
///
/// The vendor publishes no rule; its staff names "no spaces, commas, brackets; an `@` and a complete domain".
///
/// # Errors
/// [`AddressFault`], which never holds the address.
pub fn normalise(raw: &str) -> Result<Text, AddressFault> {
    let trimmed = raw.trim();
    if trimmed.is_empty() {
        return Err(AddressFault::Empty);
    }
    let (local, domain) = trimmed.rsplit_once('@').ok_or(AddressFault::Incomplete)?;
    if local.is_empty() || !domain.contains('.') || domain.starts_with('.') || domain.ends_with('.') || domain.contains("..") {
        return Err(AddressFault::Incomplete);
    }
    let refused = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | ':' | '(' | ')' | '<' | '>' | '[' | ']' | '"' | '\\' | '@')
    };
    if local.chars().any(refused) || domain.chars().any(refused) {
        return Err(AddressFault::Character);
    }
    let address = if trimmed.is_ascii() {
        let mut text = Text::new(trimmed);
        text.make_ascii_lowercase();
        text
    } else {
        let domain = idna::domain_to_ascii(domain).map_err(|_| AddressFault::Domain)?;
        let mut text = Text::from(local.to_lowercase());
        text.push('@');
        text.push_str(&domain);
        text
    };
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(AddressFault::TooLong);
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_all_spellings() {
        assert_eq!(normalise(" Ana.Li@Example.COM ").as_deref(), Ok("ana.li@example.com"));
        assert_eq!(normalise("ana@bücher.example").as_deref(), Ok("ana@xn--bcher-kva.example"));
    }

    #[test]
    fn what_the_vendor_refuses_is_refused_before_it_is_sent() {
        for (raw, fault) in [
            ("  ", AddressFault::Empty),
            ("ana", AddressFault::Incomplete),
            ("@example.com", AddressFault::Incomplete),
            ("ana@localhost", AddressFault::Incomplete),
            ("ana@example..com", AddressFault::Incomplete),
            ("a na@example.com", AddressFault::Character),
            ("a@b@example.com", AddressFault::Character),
            ("ana,li@example.com", AddressFault::Character),
        ] {
            assert_eq!(normalise(raw), Err(fault), "{raw:?}");
        }
        assert_eq!(normalise(&format!("{}@example.com", "a".repeat(80))), Err(AddressFault::TooLong));
    }
}
