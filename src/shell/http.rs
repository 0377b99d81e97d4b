//! Requests out: one client without retries and redirects, so that no request goes uncounted; deadlines; and the lease,
//! looked at where the first byte is written.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    constant_contact::{
        oauth::{TokenHttpRequest, TokenHttpResponse},
        request, response,
    },
    engine::output::Call,
    model::{
        call::{Lost, NotSent, Outcome},
        time::{Mono, UnixMillis},
    },
};

use super::clock;

/// The largest answer that is read, in bytes: 500 contacts with 50 lists each stay far below.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The largest answer of the token endpoint that is read, in bytes.
const TOKEN_ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long a connection may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection is kept without use: shorter than servers do, so that few requests meet one that just closed.
const IDLE: Duration = Duration::from_secs(20);

/// The client of one process, for the vendor and its token endpoint.
///
/// # Errors
/// The platform's root certificates cannot be read.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_DEADLINE)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("listkeeper/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Sends a call and reads its answer. `token` is the connection's access token; without one nothing is sent.
///
/// Returns what became of it and the vendor's time, where an answer came.
pub async fn send(
    client: &reqwest::Client,
    api: &Url,
    call: &Call,
    token: Option<&SecretString>,
) -> (Outcome, Option<UnixMillis>) {
    let Some(token) = token else { return (Outcome::NotSent(NotSent::NoToken), None) };
    let Ok(mut authorization) = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())) else {
        return (Outcome::NotSent(NotSent::NoToken), None);
    };
    authorization.set_sensitive(true);
    let (mut parts, body) = request::encode(api, &call.request, call.call.0).into_parts();
    parts.headers.insert(header::AUTHORIZATION, authorization);
    let request = http::Request::from_parts(parts, body);
    match execute(client, request, call.not_after, call.deadline_ms, ANSWER_BYTES_MAX).await {
        Ok(answer) => {
            let vendor_time = response::vendor_time(answer.headers());
            (response::decode(&call.request, &answer), vendor_time)
        }
        Err(Fault { outcome, vendor_time }) => (outcome, vendor_time),
    }
}

/// Why the token endpoint gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Surely nothing reached it.
    #[error("the token endpoint was not asked: it cannot be reached, or it was too late")]
    NotSent,
    /// It may have done what was asked.
    #[error("the token endpoint gave no answer that could be read")]
    Lost,
}

/// Sends a request to the token endpoint.
///
/// # Errors
/// Whether it may have arrived.
pub async fn ask_token(
    client: &reqwest::Client,
    request: TokenHttpRequest,
    not_after: Mono,
    deadline_ms: u64,
) -> Result<TokenHttpResponse, TokenFault> {
    match execute(client, request.map(Bytes::from), not_after, deadline_ms, TOKEN_ANSWER_BYTES_MAX).await {
        Ok(answer) => Ok(answer.map(Vec::from)),
        Err(Fault { outcome: Outcome::NotSent(_), .. }) => Err(TokenFault::NotSent),
        Err(Fault { outcome: Outcome::Unknown(_) | Outcome::Answered(_) | Outcome::Refused(_), .. }) => Err(TokenFault::Lost),
    }
}

/// No answer, or none that could be read.
struct Fault {
    outcome: Outcome,
    vendor_time: Option<UnixMillis>,
}

impl From<Outcome> for Fault {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, vendor_time: None }
    }
}

async fn execute(
    client: &reqwest::Client,
    request: http::Request<Bytes>,
    not_after: Mono,
    deadline_ms: u64,
    answer_bytes_max: usize,
) -> Result<http::Response<Bytes>, Fault> {
    let (asked, has_body) = (Arc::new(AtomicBool::new(false)), !request.body().is_empty());
    let request = request.map(|body| reqwest::Body::wrap(Leased { body: Some(body), not_after, asked: Arc::clone(&asked) }));
    let Ok(mut request) = reqwest::Request::try_from(request) else { return Err(Outcome::NotSent(NotSent::Unreachable).into()) };
    *request.timeout_mut() = Some(Duration::from_millis(deadline_ms));
    if clock::mono() > not_after {
        return Err(Outcome::NotSent(NotSent::TooLate).into());
    }
    let answer = client.execute(request).await.map_err(|error| {
        Fault::from(if too_late(&error) {
            Outcome::NotSent(NotSent::TooLate)
        } else if error.is_connect() || (has_body && !asked.load(Ordering::Acquire)) {
            // Time may also run out while a connection is made: nobody can have acted on a body that never left.
            Outcome::NotSent(NotSent::Unreachable)
        } else {
            Outcome::Unknown(lost(&error))
        })
    })?;
    read(answer, answer_bytes_max).await
}

async fn read(mut answer: reqwest::Response, bytes_max: usize) -> Result<http::Response<Bytes>, Fault> {
    let mut head = http::Response::new(Bytes::new());
    *head.status_mut() = answer.status();
    *head.headers_mut() = std::mem::take(answer.headers_mut());
    let fault = |lost, head: &http::Response<Bytes>| Fault {
        outcome: Outcome::Unknown(lost),
        vendor_time: response::vendor_time(head.headers()),
    };
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(fault(Lost::Unreadable, &head)),
            Ok(None) => return Ok(head.map(|_| Bytes::from(body))),
            Err(error) => return Err(fault(lost(&error), &head)),
        }
    }
}

fn lost(error: &reqwest::Error) -> Lost {
    if error.is_timeout() { Lost::Timeout } else { Lost::Reset }
}

/// A request whose first byte was to be written after the lease had ended.
#[derive(Debug, thiserror::Error)]
#[error("the lease to send has ended")]
struct TooLate;

fn too_late(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<TooLate>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A body that looks at the clock when it is asked for its first byte: a process that was stopped while a connection
/// was being made sends nothing of what it stopped with.
struct Leased {
    body: Option<Bytes>,
    not_after: Mono,
    /// Set once bytes of it were handed to the connection.
    asked: Arc<AtomicBool>,
}

impl Body for Leased {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        if self.body.is_some() && clock::mono() > self.not_after {
            self.body = None;
            return Poll::Ready(Some(Err(TooLate)));
        }
        self.asked.store(true, Ordering::Release);
        Poll::Ready(self.body.take().filter(|body| !body.is_empty()).map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::any};
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;
    use crate::{
        engine::output::CallId,
        model::{
            ActivityId, ListId,
            batch::{BatchName, ImportRows},
            call::{Answer, CallKind, Disposition, Request},
            catalog::ConnectionId,
            row::Row,
        },
    };

    async fn serve(app: Router) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Url::parse(&format!("http://{address}/v3")).unwrap()
    }

    fn call(request: Request, lease_ms: i64, deadline_ms: u64) -> Call {
        let mono = clock::mono().0.saturating_add_signed(lease_ms);
        Call { call: CallId(1), connection: ConnectionId(0), request, not_after: Mono(mono), deadline_ms }
    }

    fn poll() -> Request {
        Request::Activity { activity_id: ActivityId::from_u128(1) }
    }

    fn import() -> Request {
        let rows: Arc<[_]> = Arc::from([("a@example.com".into(), Row::default())]);
        let rows = ImportRows { custom_fields: Arc::from([]), has_first_name: false, has_last_name: false, rows };
        Request::Import { name: BatchName("b1".into()), lists: vec![ListId::from_u128(1)], rows }
    }

    async fn outcome(api: &Url, call: &Call) -> Outcome {
        send(&client().unwrap(), api, call, Some(&SecretString::from("t"))).await.0
    }

    fn install_tls() {
        // A second installation in one process is refused, and means nothing.
        drop(rustls::crypto::ring::default_provider().install_default());
    }

    #[tokio::test]
    async fn an_answer_is_decoded_and_brings_the_vendors_time() {
        install_tls();
        let body = r#"{"activity_id":"00000000-0000-0000-0000-000000000001","state":"processing"}"#;
        let api = serve(Router::new().fallback(any(move |headers: http::HeaderMap| async move {
            assert_eq!(headers[header::AUTHORIZATION], "Bearer t");
            ([(header::DATE, "Tue, 24 Nov 2026 00:00:00 GMT")], body)
        })))
        .await;
        let (outcome, time) = send(&client().unwrap(), &api, &call(poll(), 5_000, 5_000), Some(&SecretString::from("t"))).await;
        assert!(matches!(outcome, Outcome::Answered(Answer::Activity(_))), "{outcome:?}");
        assert_eq!(time, Some(UnixMillis(1_795_478_400_000)));
    }

    #[tokio::test]
    async fn what_does_not_come_back_is_told_apart() {
        install_tls();
        let slow = serve(Router::new().fallback(any(std::future::pending::<()>))).await;
        assert_eq!(outcome(&slow, &call(poll(), 5_000, 50)).await, Outcome::Unknown(Lost::Timeout));
        let refused = serve(Router::new().fallback(any(|| async { http::StatusCode::UNAUTHORIZED }))).await;
        let Outcome::Refused(refusal) = outcome(&refused, &call(poll(), 5_000, 5_000)).await else { panic!("not refused") };
        assert_eq!(refusal.disposition, Disposition::RefreshToken);
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let nobody = Url::parse(&format!("http://{nobody}/v3")).unwrap();
        assert_eq!(outcome(&nobody, &call(import(), 5_000, 5_000)).await, Outcome::NotSent(NotSent::Unreachable));
        assert_eq!(send(&client().unwrap(), &nobody, &call(poll(), 5_000, 50), None).await.0, Outcome::NotSent(NotSent::NoToken));
    }

    #[tokio::test]
    async fn a_connection_that_breaks_after_bytes_left_leaves_the_outcome_unknown() {
        install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Url::parse(&format!("http://{}/v3", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                drop(socket.read(&mut [0; 16]).await);
            }
        });
        for request in [poll(), import()] {
            assert_eq!(outcome(&api, &call(request, 5_000, 5_000)).await, Outcome::Unknown(Lost::Reset));
        }
    }

    #[tokio::test]
    async fn a_batch_whose_time_ran_out_before_a_connection_was_made_was_not_sent() {
        install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Nobody answers the greeting of TLS: the request waits for its connection until its time is up.
        let api = Url::parse(&format!("https://{}/v3", listener.local_addr().unwrap())).unwrap();
        assert_eq!(outcome(&api, &call(import(), 5_000, 100)).await, Outcome::NotSent(NotSent::Unreachable));
        assert_eq!(outcome(&api, &call(poll(), 5_000, 100)).await, Outcome::Unknown(Lost::Timeout));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_and_unknown() {
        install_tls();
        let api = serve(Router::new().fallback(any(|| async { vec![b' '; ANSWER_BYTES_MAX + 1] }))).await;
        assert_eq!(outcome(&api, &call(poll(), 5_000, 10_000)).await, Outcome::Unknown(Lost::Unreadable));
    }

    #[tokio::test]
    async fn nothing_is_sent_after_the_lease() {
        install_tls();
        let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        let count = move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            std::future::ready("")
        };
        let api = serve(Router::new().fallback(any(count))).await;
        for request in [poll(), import()] {
            assert_eq!(request.kind() == CallKind::Import, matches!(request, Request::Import { .. }));
            assert_eq!(outcome(&api, &call(request, -1, 5_000)).await, Outcome::NotSent(NotSent::TooLate));
        }
        assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), 0);
        let leased = Leased { body: Some(Bytes::from_static(b"x")), not_after: Mono(0), asked: Arc::default() };
        let mut leased = std::pin::pin!(leased);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(leased.as_mut().poll_frame(&mut context), Poll::Ready(Some(Err(TooLate)))));
    }
}
