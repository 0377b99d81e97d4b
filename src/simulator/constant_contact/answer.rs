//! Answers in the vendor's documented shapes.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::model::time::UnixMillis;

/// An answer before its `Date` is set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// An answer of plain data, whose names of fields are texts: nothing in it can fail to be written.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self { status, body: Bytes::from(serde_json::to_vec(body).unwrap_or_default()) }
    }

    /// An answer whose JSON is written already.
    pub(super) fn text(status: StatusCode, body: String) -> Self {
        Self { status, body: Bytes::from(body) }
    }

    /// An error of the contacts services: an array.
    pub(super) fn error(status: StatusCode, key: &str, message: &str) -> Self {
        Self::json(status, &json!([{ "error_key": key, "error_message": message }]))
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, "contacts.api.validation.error", message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::error(StatusCode::NOT_FOUND, "contacts.api.not_found", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "The method is not one of this resource's.";
        Self::error(StatusCode::METHOD_NOT_ALLOWED, "contacts.api.method_not_allowed", message)
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self::error(StatusCode::CONFLICT, "contacts.api.conflict", message)
    }

    pub(super) fn unsupported_media_type(message: &str) -> Self {
        Self::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "contacts.api.unsupported_media_type", message)
    }

    /// An error of the gateway before the services: a bare object.
    pub(super) fn gateway(status: StatusCode, key: &str, message: &str) -> Self {
        // A captured live body ends with a line feed.
        Self { status, body: Bytes::from(format!("{}\n", json!({ "error_key": key, "error_message": message }))) }
    }

    pub(super) fn unauthorized() -> Self {
        Self::gateway(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized")
    }

    pub(super) fn throttled() -> Self {
        Self::gateway(StatusCode::TOO_MANY_REQUESTS, "throttled", "Too Many Requests")
    }

    pub(super) fn quota_exceeded() -> Self {
        Self::gateway(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", "Limit Exceeded")
    }

    /// An error of the token endpoint: OAuth's object.
    pub(super) fn oauth(status: StatusCode, error: &str, description: &str) -> Self {
        Self::json(status, &json!({ "error": error, "error_description": description }))
    }

    pub(super) fn into_response(self, now: UnixMillis) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(date) = http_date(now) {
            response.headers_mut().insert(header::DATE, date);
        }
        response
    }
}

fn http_date(now: UnixMillis) -> Option<HeaderValue> {
    let timestamp = jiff::Timestamp::from_millisecond(now.0).ok()?;
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp).ok()?;
    HeaderValue::from_str(&text).ok()
}

/// An instant as the vendor writes it: whole seconds of UTC.
pub(super) fn instant(at_s: i64) -> String {
    jiff::Timestamp::from_second(at_s).map_or_else(|_| String::new(), |timestamp| timestamp.to_string())
}

/// The second that an instant lies in.
pub(super) const fn second(at: UnixMillis) -> i64 {
    at.0.div_euclid(1_000)
}
