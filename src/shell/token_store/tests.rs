use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::post};
use tokio::net::TcpListener;

use super::*;
use crate::{engine::output::RefreshId, model::time::Mono, shell::http::client};

/// A folder of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("listkeeper-token-store-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("token.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A token endpoint that answers with its texts in turn, the last one for ever.
async fn endpoint(answers: &'static [(u16, &'static str)]) -> (Url, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let app = Router::new().route(
        "/token",
        post(move || {
            let at = counter.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (status, body) = answers[at];
            let headers = [("content-type", "application/json")];
            std::future::ready((StatusCode::from_u16(status).unwrap(), headers, body).into_response())
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/token", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

const TOKENS_2: (u16, &str) = (200, r#"{"access_token":"a2","token_type":"Bearer","expires_in":86400,"refresh_token":"r2"}"#);
const USED_UP: (u16, &str) = (400, r#"{"error":"invalid_grant"}"#);

fn tokens(store: TokenStore, token_url: Url) -> Tokens {
    drop(rustls::crypto::ring::default_provider().install_default());
    let source = TokenSource {
        connection: "c".into(),
        store,
        client_id: SecretString::from("id"),
        client_secret: SecretString::from("s"),
        token_url,
    };
    Tokens::new(&client().unwrap(), vec![source])
}

fn look(rejected: bool) -> ReadToken {
    let not_after = Mono(clock::mono().0 + 5_000);
    ReadToken { refresh: RefreshId(1), connection: ConnectionId(0), rejected, may_refresh: true, not_after, deadline_ms: 5_000 }
}

fn nowhere() -> Url {
    Url::parse("http://127.0.0.1:1/token").unwrap()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn stored(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn access(tokens: &Tokens) -> Option<String> {
    tokens.access(ConnectionId(0)).map(|access| access.expose_secret().to_owned())
}

#[test]
fn a_record_is_replaced_only_where_it_is_the_one_begun_with() {
    let folder = Folder::new("swap");
    let store = FileStore::new(folder.file());
    let record: TokenRecord = serde_json::from_str(r#"{"client_id":"id","version":7,"refresh_token":"r1"}"#).unwrap();
    assert!(store.read().unwrap().is_none());
    store.replace(None, &record).unwrap();
    assert!(matches!(store.replace(None, &record), Err(StoreFault::Replaced)));
    assert!(matches!(store.replace(Some(6), &record), Err(StoreFault::Replaced)));
    store.replace(Some(7), &record.refreshed(SecretString::from("a2"), None, Some(100), UnixMillis(0))).unwrap();
    let found = stored(&folder.file());
    assert_eq!((&found["version"], &found["refresh_token"]), (&8.into(), &"r1".into()), "without a new one the old stays");
    assert_eq!((&found["refresh_at"], &found["expires_at"]), (&"1970-01-01T00:01:20Z".into(), &"1970-01-01T00:01:40Z".into()));
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);
    write(&folder.file(), r#"{"client_id":"id","version":"secret"}"#);
    let fault = store.read().unwrap_err().to_string();
    assert!(fault.contains("line 1") && !fault.contains("secret"), "{fault}");
}

#[tokio::test]
async fn what_a_person_stored_is_refreshed_and_then_taken_as_it_is() {
    let folder = Folder::new("first");
    let (url, asked) = endpoint(&[TOKENS_2]).await;
    write(&folder.file(), r#"{"client_id":"id","refresh_token":"r1"}"#);
    let tokens = tokens(TokenStore::File(folder.file()), url);
    assert!(matches!(tokens.read(look(false)).await, TokenOutcome::Valid { refresh_at: Some(_), expires_at: Some(_) }));
    assert_eq!(access(&tokens).as_deref(), Some("a2"));
    assert_eq!(stored(&folder.file())["refresh_token"], "r2");
    assert!(matches!(tokens.read(look(false)).await, TokenOutcome::Valid { .. }));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it was not due");
    tokens.read(look(true)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "a rejected one is refreshed although it is not due");
}

#[tokio::test]
async fn a_newer_stored_token_is_taken_before_the_endpoint_is_asked() {
    let folder = Folder::new("newer");
    let (url, asked) = endpoint(&[USED_UP]).await;
    write(&folder.file(), r#"{"client_id":"id","version":1,"access_token":"a1","refresh_token":"r1"}"#);
    let tokens = tokens(TokenStore::File(folder.file()), url);
    tokens.read(look(false)).await;
    write(&folder.file(), r#"{"client_id":"id","version":2,"access_token":"a2","refresh_token":"r2"}"#);
    assert!(matches!(tokens.read(look(true)).await, TokenOutcome::Valid { .. }));
    assert_eq!((access(&tokens).as_deref(), asked.load(Ordering::SeqCst)), (Some("a2"), 0));
    assert_eq!(tokens.read(look(true)).await, TokenOutcome::Dead, "nobody stored a newer one");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn each_fault_has_its_outcome() {
    let folder = Folder::new("faults");
    let (url, _) = endpoint(&[(502, "<html>")]).await;
    let unavailable = |requested| TokenOutcome::Unavailable { requested };
    let alive = format!(
        r#"{{"client_id":"id","access_token":"a1","refresh_token":"r1","refresh_at":"2020-01-01T00:00:00Z","expires_at":"{}"}}"#,
        "2100-01-01T00:00:00Z"
    );
    for (what, content, url, expected) in [
        ("no file", None, nowhere(), TokenOutcome::Missing),
        ("another's", Some(r#"{"client_id":"other","access_token":"a1"}"#), nowhere(), TokenOutcome::OtherApplication),
        ("no record", Some("a1"), nowhere(), unavailable(false)),
        ("nobody listens", Some(r#"{"client_id":"id","refresh_token":"r1"}"#), nowhere(), unavailable(false)),
        ("the endpoint fails", Some(r#"{"client_id":"id","refresh_token":"r1"}"#), url.clone(), unavailable(true)),
    ] {
        let file = folder.0.join("case.json");
        drop(fs::remove_file(&file));
        content.into_iter().for_each(|content| write(&file, content));
        assert_eq!(tokens(TokenStore::File(file), url).read(look(false)).await, expected, "{what}");
    }
    write(&folder.file(), &alive);
    let tokens = tokens(TokenStore::File(folder.file()), url);
    assert!(matches!(tokens.read(look(false)).await, TokenOutcome::Valid { .. }), "the old one works until it ends");
    assert_eq!(access(&tokens).as_deref(), Some("a1"));
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_not_lost() {
    let folder = Folder::new("unstored");
    let (url, asked) = endpoint(&[TOKENS_2, USED_UP]).await;
    write(&folder.file(), r#"{"client_id":"id","refresh_token":"r1"}"#);
    // A folder where the fresh file is to be written keeps anybody from writing it, root too.
    let obstacle = folder.0.join("token.json.new");
    fs::create_dir(&obstacle).unwrap();
    let tokens = tokens(TokenStore::File(folder.file()), url);
    for _ in 0..2 {
        assert!(matches!(tokens.read(look(false)).await, TokenOutcome::Valid { .. }));
        assert_eq!(access(&tokens).as_deref(), Some("a2"));
    }
    fs::remove_dir(&obstacle).unwrap();
    assert!(matches!(tokens.read(look(false)).await, TokenOutcome::Valid { .. }));
    assert_eq!((stored(&folder.file())["refresh_token"].as_str(), asked.load(Ordering::SeqCst)), (Some("r2"), 1));
}

#[tokio::test]
async fn an_answer_is_stored_also_when_nobody_waits_for_it() {
    let folder = Folder::new("detached");
    let (url, asked) = endpoint(&[TOKENS_2]).await;
    write(&folder.file(), r#"{"client_id":"id","refresh_token":"r1"}"#);
    let tokens = tokens(TokenStore::File(folder.file()), url);
    let connection = Arc::clone(&tokens.connections[0]);
    tokio::select! {
        biased;
        _ = tokens.read(look(false)) => panic!("it cannot be over at its first poll"),
        () = std::future::ready(()) => {}
    }
    drop(tokens);
    // Whoever looks next waits for the look under way.
    assert!(matches!(connection.read(look(false)).await, TokenOutcome::Valid { .. }));
    assert_eq!((stored(&folder.file())["version"].as_u64(), asked.load(Ordering::SeqCst)), (Some(1), 1));
}

#[tokio::test]
async fn a_fixed_token_is_read_again_when_it_is_rejected() {
    let folder = Folder::new("fixed");
    let tokens = tokens(TokenStore::AccessTokenFile(folder.file()), nowhere());
    assert_eq!(tokens.read(look(false)).await, TokenOutcome::Missing);
    write(&folder.file(), "a1\n");
    let valid = TokenOutcome::Valid { refresh_at: None, expires_at: None };
    assert_eq!(tokens.read(look(false)).await, valid);
    assert_eq!(tokens.read(look(true)).await, TokenOutcome::Dead);
    write(&folder.file(), "a2\n");
    assert_eq!(tokens.read(look(true)).await, valid);
    assert_eq!(access(&tokens).as_deref(), Some("a2"));
}

#[tokio::test]
async fn an_answer_that_comes_after_the_caller_has_gone_is_stored_before_the_process_ends() {
    let folder = Folder::new("gone");
    write(&folder.file(), r#"{"client_id":"id","version":1,"refresh_token":"r1"}"#);
    let (asked, answer) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (tell, wait) = (Arc::clone(&asked), Arc::clone(&answer));
    let app = Router::new().route(
        "/token",
        post(move || {
            let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
            async move {
                tell.notify_one();
                wait.notified().await;
                ([("content-type", "application/json")], TOKENS_2.1)
            }
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/token", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let tokens = tokens(TokenStore::File(folder.file()), url);
    tokio::select! {
        outcome = tokens.read(look(false)) => panic!("{outcome:?}"),
        () = asked.notified() => {}
    }
    assert_eq!(stored(&folder.file())["refresh_token"], "r1");
    answer.notify_one();
    tokens.finished().await;
    assert_eq!(stored(&folder.file())["refresh_token"], "r2");
}
