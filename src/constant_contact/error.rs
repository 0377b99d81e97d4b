//! What each documented status and body means for us: one table, with a test for each row.

use http::{HeaderMap, StatusCode, header};

use crate::model::{
    Text,
    call::{CallKind, Disposition, Refusal},
};

/// Reads an answer that is not what was asked for. Bodies come as array, object, OAuth object or strings, empty, or as
/// HTML; nothing of them but the error key is kept.
#[must_use]
pub fn refusal(kind: CallKind, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let error_key = error_key(body);
    let disposition = disposition(kind, status.as_u16(), error_key.as_deref());
    Refusal { status: status.as_u16(), error_key, disposition, retry_after_ms: retry_after_ms(headers) }
}

/// The table.
fn disposition(kind: CallKind, status: u16, error_key: Option<&str>) -> Disposition {
    match (status, error_key) {
        (429, Some("quota_exceeded")) => Disposition::QuotaExceeded,
        (429, Some("throttled")) => Disposition::Throttled,
        // "You exceeded 1,000 queued activities": its body is not documented.
        (429, _) if matches!(kind, CallKind::Import | CallKind::Remove) => Disposition::QueueFull,
        (429, _) => Disposition::Throttled,
        (401, _) => Disposition::RefreshToken,
        (403, _) => Disposition::HoldConnection,
        (404, _) => Disposition::NotFound,
        (409, _) => Disposition::Conflict,
        (413, _) => Disposition::Split,
        (408 | 500..=599, _) => Disposition::ServerError,
        (_, _) => Disposition::Invalid,
    }
}

/// The `error_key` (or OAuth `error`) of a body, cut to a size that a log line bears.
fn error_key(body: &[u8]) -> Option<Text> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let object = value.as_array().and_then(|array| array.first()).unwrap_or(&value);
    let key = object.get("error_key").or_else(|| object.get("error"))?.as_str()?;
    plain_key(key)
}

/// The key if it is a plain word: what else a body holds could be somebody's data.
pub(super) fn plain_key(key: &str) -> Option<Text> {
    let plain = key.len() <= 100 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    plain.then(|| Text::from(key))
}

/// `Retry-After` in seconds or as a date relative to the answer's own `Date`.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let until = super::wire::http_date(text)?;
    let now = super::response::vendor_time(headers)?;
    Some(until.since_ms(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_of_the_table() {
        let throttled = r#"{"error_key":"throttled","error_message":"Too Many Requests"}"#;
        let quota = r#"{"error_key":"quota_exceeded","error_message":"Limit Exceeded"}"#;
        for (kind, status, body, expected) in [
            (CallKind::Import, 429, throttled, Disposition::Throttled),
            (CallKind::Poll, 429, quota, Disposition::QuotaExceeded),
            (CallKind::Import, 429, r#"[{"error_key":"activities.queue"}]"#, Disposition::QueueFull),
            (CallKind::Remove, 429, "", Disposition::QueueFull),
            (CallKind::Scan, 429, "<html>slow down</html>", Disposition::Throttled),
            (CallKind::Poll, 401, r#"{"error_key":"unauthorized","error_message":"Unauthorized"}"#, Disposition::RefreshToken),
            (CallKind::Import, 403, "", Disposition::HoldConnection),
            (CallKind::Poll, 404, r#"[{"error_key":"contacts.api.not_found"}]"#, Disposition::NotFound),
            (CallKind::Lists, 409, r#"[{"error_key":"contacts.api.conflict"}]"#, Disposition::Conflict),
            (CallKind::Import, 413, "", Disposition::Split),
            (CallKind::Import, 400, r#"[{"error_key":"contacts.api.validation.error"}]"#, Disposition::Invalid),
            (CallKind::Import, 415, r#"["unsupported"]"#, Disposition::Invalid),
            (CallKind::Import, 302, "", Disposition::Invalid),
            (CallKind::Import, 408, "", Disposition::ServerError),
            (CallKind::Import, 500, "<html>", Disposition::ServerError),
            (CallKind::Poll, 503, "", Disposition::ServerError),
        ] {
            let refusal = refusal(kind, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes());
            assert_eq!(refusal.disposition, expected, "{kind:?} {status} {body}");
        }
    }

    #[test]
    fn only_a_plain_key_is_kept_of_a_body() {
        assert_eq!(
            error_key(br#"[{"error_key":"contacts.api.conflict","error_message":"ana@example.com"}]"#).as_deref(),
            Some("contacts.api.conflict")
        );
        assert_eq!(error_key(br#"{"error":"invalid_grant"}"#).as_deref(), Some("invalid_grant"));
        assert_eq!(error_key(br#"{"error_key":"ana@example.com"}"#), None);
        assert_eq!(error_key(b"[]"), None);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after_ms(&headers), Some(7_000));
        headers.insert(header::DATE, "Tue, 24 Nov 2026 00:00:00 GMT".parse().unwrap());
        headers.insert(header::RETRY_AFTER, "Tue, 24 Nov 2026 00:01:00 GMT".parse().unwrap());
        assert_eq!(retry_after_ms(&headers), Some(60_000));
    }
}
