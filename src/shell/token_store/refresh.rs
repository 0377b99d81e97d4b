//! A stored record: taken as it is, or refreshed and stored.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use secrecy::ExposeSecret as _;

use crate::{
    constant_contact::oauth::{self, Refresh, TokenReply},
    engine::{input::TokenOutcome, output::ReadToken},
    model::time::UnixMillis,
};

use super::{ConnectionTokens, FileStore, StoreFault, TokenRecord, wall};
use crate::shell::http;

/// How soon a refresh that failed is tried again while the old token still works.
const AGAIN_MS: i64 = 60_000;

impl ConnectionTokens {
    pub(super) async fn read_record(&self, path: PathBuf, read: ReadToken) -> TokenOutcome {
        let store = FileStore::new(path);
        self.store_what_is_left(&store).await;
        let unavailable = TokenOutcome::Unavailable { requested: false };
        let unstored = self.state().unstored.clone();
        let (began_with, record) = match unstored {
            Some(unstored) => unstored,
            None => match load(&store).await {
                Ok(Some(record)) => (record.version, record),
                Ok(None) => return self.without(TokenOutcome::Missing),
                Err(fault) => {
                    self.warn(&fault.to_string());
                    return unavailable;
                }
            },
        };
        if record.client_id != self.source.client_id.expose_secret() {
            return self.without(TokenOutcome::OtherApplication);
        }
        let now = wall();
        let rejected = self.is_rejected(&record, read);
        if !rejected && !record.is_due(now) {
            return self.stored(&record, record.refreshes_at());
        }
        if !read.may_refresh {
            return if rejected || !record.is_alive(now) { unavailable } else { self.stored(&record, record.refreshes_at()) };
        }
        if record.refresh_token.is_none() {
            // Nothing to refresh with: it lives as long as it lives.
            return if rejected || !record.is_alive(now) { TokenOutcome::Dead } else { self.stored(&record, None) };
        }
        self.refresh(&store, began_with, record, read).await
    }

    /// Whether the record still holds the token that the vendor rejected.
    fn is_rejected(&self, record: &TokenRecord, read: ReadToken) -> bool {
        read.rejected && record.access_token.as_ref().is_some_and(|access| self.uses(access))
    }

    async fn refresh(&self, store: &FileStore, began_with: u64, record: TokenRecord, read: ReadToken) -> TokenOutcome {
        let rejected = self.is_rejected(&record, read);
        let (reply, requested) = self.ask(&record, read).await;
        match reply {
            TokenReply::Tokens { access, refresh, expires_in_s } => {
                let fresh = record.refreshed(access, refresh, expires_in_s, wall());
                self.keep(store, began_with, fresh).await
            }
            TokenReply::InvalidGrant => {
                // Somebody else may have used the token up, and stored the next one.
                self.newer(store, &record, |_| TokenOutcome::Dead).await
            }
            TokenReply::Refused { error_key } => {
                let word = error_key.as_deref().unwrap_or("no reason given");
                self.warn(&format!(
                    "the token endpoint refused to refresh ({word}): check the application's client id and secret"
                ));
                self.newer(store, &record, |now| self.still(&record, rejected, now, requested)).await
            }
            TokenReply::Lost => {
                self.warn("the token endpoint gave no answer");
                self.newer(store, &record, |now| self.still(&record, rejected, now, requested)).await
            }
        }
    }

    /// Asks the token endpoint; also tells whether anything may have reached it.
    async fn ask(&self, record: &TokenRecord, read: ReadToken) -> (TokenReply, bool) {
        let Some(refresh_token) = &record.refresh_token else { return (TokenReply::InvalidGrant, false) };
        let requested = Arc::new(AtomicBool::new(false));
        let send = |request| {
            let (client, requested) = (self.client.clone(), Arc::clone(&requested));
            async move {
                let answer = http::ask_token(&client, request, read.not_after, read.deadline_ms).await;
                requested.store(!matches!(answer, Err(http::TokenFault::NotSent)), Ordering::Release);
                answer
            }
        };
        let source = &self.source;
        let question = Refresh {
            token_url: &source.token_url,
            client_id: source.client_id.expose_secret(),
            client_secret: &source.client_secret,
            refresh_token,
        };
        let reply = oauth::refresh(question, &send).await;
        (reply, requested.load(Ordering::Acquire))
    }

    /// Stores a fresh record. One that cannot be stored is used, and kept for the next look to store: of a rotating
    /// application it is the only one that still works.
    async fn keep(&self, store: &FileStore, began_with: u64, fresh: TokenRecord) -> TokenOutcome {
        match replace(store, began_with, fresh.clone()).await {
            Ok(()) => self.state().unstored = None,
            Err(StoreFault::Replaced) => {
                self.state().unstored = None;
                return self.newer(store, &fresh, |_| self.stored(&fresh, fresh.refreshes_at())).await;
            }
            Err(fault) => {
                self.warn(&format!("{fault}; the refreshed token is kept in memory until it can be stored"));
                self.state().unstored = Some((began_with, fresh.clone()));
            }
        }
        self.stored(&fresh, fresh.refreshes_at())
    }

    async fn store_what_is_left(&self, store: &FileStore) {
        let Some((began_with, record)) = self.state().unstored.clone() else { return };
        match replace(store, began_with, record).await {
            Ok(()) => tracing::info!(connection = %self.source.connection, "the token store: the refreshed token is stored now"),
            Err(StoreFault::Replaced) => self.warn("the token was replaced by somebody else, whose token counts"),
            Err(fault) => {
                self.warn(&fault.to_string());
                return;
            }
        }
        self.state().unstored = None;
    }

    /// The stored token, if it is another than the one that was tried; else what `otherwise` says.
    async fn newer(
        &self,
        store: &FileStore,
        tried: &TokenRecord,
        otherwise: impl FnOnce(UnixMillis) -> TokenOutcome,
    ) -> TokenOutcome {
        let now = wall();
        match load(store).await {
            Ok(Some(found)) if found.client_id != tried.client_id => self.without(TokenOutcome::OtherApplication),
            Ok(Some(found)) if !same(&found, tried) && found.is_alive(now) => self.stored(&found, found.refreshes_at()),
            Ok(_) | Err(_) => otherwise(now),
        }
    }

    /// After a refresh that failed: the old token for as long as it works.
    fn still(&self, record: &TokenRecord, rejected: bool, now: UnixMillis, requested: bool) -> TokenOutcome {
        if rejected || !record.is_alive(now) {
            return TokenOutcome::Unavailable { requested };
        }
        self.stored(record, Some(now.plus_ms(AGAIN_MS)))
    }

    fn stored(&self, record: &TokenRecord, refresh_at: Option<UnixMillis>) -> TokenOutcome {
        match &record.access_token {
            Some(access) => self.valid(access.clone(), refresh_at, record.expires()),
            None => self.without(TokenOutcome::Missing),
        }
    }
}

/// Whether two records are one: by version, and by token where a person has replaced the file.
fn same(one: &TokenRecord, other: &TokenRecord) -> bool {
    let access = |record: &TokenRecord| record.access_token.as_ref().map(|token| token.expose_secret().to_owned());
    one.version == other.version && access(one) == access(other)
}

async fn load(store: &FileStore) -> Result<Option<TokenRecord>, StoreFault> {
    let store = store.clone();
    on_disk(move || store.read()).await
}

async fn replace(store: &FileStore, began_with: u64, record: TokenRecord) -> Result<(), StoreFault> {
    let store = store.clone();
    on_disk(move || store.replace(Some(began_with), &record)).await
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreFault> + Send + 'static) -> Result<T, StoreFault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(StoreFault::Io { path: "the token store".into(), doing: "used", kind: std::io::ErrorKind::Other })
    })
}
