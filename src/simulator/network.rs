//! The way between engine and vendor: requests that wait, arrive, get lost or are answered by somebody else.

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderValue, Response, header};

use crate::engine::output::CallId;
use crate::model::{
    call::{Lost, NotSent, Outcome, Request},
    catalog::ConnectionId,
    time::{Mono, UnixMillis},
};

use super::faults::{Fault, Faults};

/// A request on its way.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The term that sent it.
    pub term: u32,
    /// The epoch of that term's producer.
    pub epoch: u32,
    /// Names the answer.
    pub call: CallId,
    /// Whose account.
    pub connection: ConnectionId,
    /// What is asked.
    pub request: Request,
    /// When it left, in the world's time; nobody waits for the answer longer than `deadline_ms` after it.
    pub left_ms: u64,
    /// How long the answer is waited for.
    pub deadline_ms: u64,
    /// The lease it leaves under, on the clock of its term.
    pub not_after: Mono,
    /// How long it is on its way, each way.
    pub ways_ms: (u64, u64),
    /// What happens to it.
    pub fate: Option<Fault>,
}

/// What happens to a request that is to be sent, drawn as it is handed over: how long it waits before it leaves, how
/// long it takes each way, and what else.
pub fn draw_fate(rng: &mut Rng, faults: &mut Faults) -> (u64, (u64, u64), Option<Fault>) {
    let mut ways_ms = (rng.u64(5..150), rng.u64(5..150));
    let mut wait_ms = rng.u64(..4);
    if faults.strikes(rng, Fault::SlowRequest) {
        match rng.u32(..3) {
            0 => wait_ms = rng.u64(..8_000),
            1 => ways_ms.0 = rng.u64(500..28_000),
            _ => ways_ms.1 = rng.u64(500..32_000),
        }
    }
    let fates = [
        Fault::Unreachable,
        Fault::RequestLost,
        Fault::AnswerLost,
        Fault::ArrivesLate,
        Fault::Throttled,
        Fault::QuotaDenied,
        Fault::ServerError,
        Fault::ServerErrorExecuted,
        Fault::TokenRejected,
    ];
    let fate = fates.into_iter().find(|fault| faults.strikes(rng, *fault));
    (wait_ms, ways_ms, fate)
}

/// How a request ends that comes to nothing before the vendor: when after leaving, and as what.
#[must_use]
pub fn lost(rng: &mut Rng, parcel: &Parcel) -> Option<(u64, Outcome)> {
    match parcel.fate {
        Some(Fault::Unreachable) => Some((parcel.ways_ms.0, Outcome::NotSent(NotSent::Unreachable))),
        Some(Fault::RequestLost) if rng.bool() => Some((parcel.ways_ms.0, Outcome::Unknown(Lost::Reset))),
        Some(Fault::RequestLost) => Some((parcel.deadline_ms, Outcome::Unknown(Lost::Timeout))),
        Some(_) | None => None,
    }
}

/// The answer of something that stands before the vendor, where one answers in its place.
#[must_use]
pub fn answered_before(rng: &mut Rng, fate: Option<Fault>, now: UnixMillis) -> Option<Response<Bytes>> {
    let fate = fate?;
    let (status, body) = if fate == Fault::Throttled {
        (429, r#"{"error_key":"throttled","error_message":"Too Many Requests"}"#)
    } else if fate == Fault::QuotaDenied {
        (429, r#"{"error_key":"quota_exceeded","error_message":"Limit Exceeded"}"#)
    } else if fate == Fault::TokenRejected {
        (401, r#"{"error_key":"unauthorized","error_message":"Unauthorized"}"#)
    } else if fate == Fault::ServerError {
        (if rng.bool() { 500 } else { 503 }, "<html>an error</html>")
    } else {
        return None;
    };
    Some(response(status, body, now))
}

/// The answer that hides that the vendor did what was asked.
#[must_use]
pub fn answered_after(now: UnixMillis) -> Response<Bytes> {
    response(502, "", now)
}

fn response(status: u16, body: &'static str, now: UnixMillis) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let date = jiff::Timestamp::from_millisecond(now.0)
        .ok()
        .and_then(|at| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok())
        .and_then(|date| HeaderValue::from_str(&date).ok());
    if let Some(date) = date {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}
