//! Tokens: where they live, how they are refreshed, and the access tokens in use.
//!
//! Tokens follow the store, not the term: whoever holds the answer of a refresh stores it, owner of the shard or not, if
//! the stored version is still the one that it began with. So an answer that comes after the term has ended, or after
//! the caller has stopped waiting, is not lost: of a rotating application it is the only token that still works.

mod file;
mod record;
mod refresh;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    config::{Config, TokenStore},
    engine::{input::TokenOutcome, output::ReadToken},
    model::{Text, catalog::ConnectionId, time::UnixMillis},
};

use super::clock;

pub use file::{FileStore, StoreFault};
pub use record::TokenRecord;

/// The tokens of one shard's connections, in the order of its catalog.
#[derive(Debug)]
pub struct Tokens {
    connections: Vec<Arc<ConnectionTokens>>,
}

/// Where one connection's token lives, and whose it must be.
#[derive(Debug, Clone)]
pub struct TokenSource {
    /// The connection's name, for log lines.
    pub connection: Text,
    /// Where the token lives.
    pub store: TokenStore,
    /// The application's client id.
    pub client_id: SecretString,
    /// The application's secret.
    pub client_secret: SecretString,
    /// The token endpoint.
    pub token_url: Url,
}

impl TokenSource {
    /// The source of a connection, by its number and its application's number in the configuration.
    #[must_use]
    pub fn new(config: &Config, connection: usize, application: usize) -> Self {
        let (connection, application) = (&config.connections[connection], &config.applications[application]);
        Self {
            connection: connection.name.clone(),
            store: connection.token_store.clone(),
            client_id: application.client_id.clone(),
            client_secret: application.client_secret.clone(),
            token_url: config.endpoints.token.clone(),
        }
    }
}

impl Tokens {
    /// Tokens of these connections.
    #[must_use]
    pub fn new(client: &reqwest::Client, sources: Vec<TokenSource>) -> Self {
        let connection = |source| Arc::new(ConnectionTokens::new(client.clone(), source));
        Self { connections: sources.into_iter().map(connection).collect() }
    }

    /// The access token in use, if there is one.
    #[must_use]
    pub fn access(&self, connection: ConnectionId) -> Option<SecretString> {
        let tokens = self.connections.get(usize::from(connection.0))?;
        tokens.state().current.as_ref().map(|current| current.access.clone())
    }

    /// Looks for a token as the engine asks. Runs to its end also when nobody waits for it any more.
    pub async fn read(&self, read: ReadToken) -> TokenOutcome {
        let Some(tokens) = self.connections.get(usize::from(read.connection.0)).map(Arc::clone) else {
            return TokenOutcome::Missing;
        };
        // A task of its own: when the driver ends, the answer of a refresh under way is stored all the same.
        let looking = tokio::spawn(async move { tokens.read(read).await });
        looking.await.unwrap_or(TokenOutcome::Unavailable { requested: true })
    }

    /// Waits for the looks under way, of callers that are gone too: a process that ends before the answer of a refresh
    /// is stored takes the only token that still works with it. Their requests' deadlines bound it.
    pub async fn finished(&self) {
        for connection in &self.connections {
            drop(connection.looking.lock().await);
        }
    }
}

#[derive(Debug)]
struct ConnectionTokens {
    client: reqwest::Client,
    source: TokenSource,
    state: Mutex<State>,
    /// One look at a time: a second finds what the first stored.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// A record that could not be stored yet, with the version that it replaces.
    unstored: Option<(u64, TokenRecord)>,
}

#[derive(Debug)]
struct Current {
    access: SecretString,
}

impl ConnectionTokens {
    fn new(client: reqwest::Client, source: TokenSource) -> Self {
        Self { client, source, state: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, read: ReadToken) -> TokenOutcome {
        let _one_at_a_time = self.looking.lock().await;
        match &self.source.store {
            TokenStore::File(path) => self.read_record(path.clone(), read).await,
            TokenStore::AccessTokenFile(path) => self.read_fixed(path.clone(), read.rejected).await,
            TokenStore::KubernetesSecret(_) => {
                // `Config::ready` refuses it before anything runs.
                TokenOutcome::Unavailable { requested: false }
            }
        }
    }

    /// A file with one access token and nothing else: when the vendor rejects it, only another content helps.
    async fn read_fixed(&self, path: PathBuf, rejected: bool) -> TokenOutcome {
        let found = blocking({
            let path = path.clone();
            move || std::fs::read_to_string(path)
        })
        .await;
        match found {
            Ok(text) if text.trim().is_empty() => self.without(TokenOutcome::Missing),
            Ok(text) => {
                let access = SecretString::from(text.trim());
                if rejected && self.uses(&access) {
                    return TokenOutcome::Dead;
                }
                self.take(access);
                TokenOutcome::Valid { refresh_at: None, expires_at: None }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.without(TokenOutcome::Missing),
            Err(error) => {
                self.warn(&format!("{} cannot be read ({})", path.display(), error.kind()));
                TokenOutcome::Unavailable { requested: false }
            }
        }
    }

    fn uses(&self, access: &SecretString) -> bool {
        self.state().current.as_ref().is_some_and(|current| current.access.expose_secret() == access.expose_secret())
    }

    fn take(&self, access: SecretString) {
        self.state().current = Some(Current { access });
    }

    fn without(&self, outcome: TokenOutcome) -> TokenOutcome {
        self.state().current = None;
        outcome
    }

    /// Takes a stored token. `refresh_at` is when it should be refreshed.
    fn valid(&self, access: SecretString, refresh_at: Option<UnixMillis>, expires_at: Option<UnixMillis>) -> TokenOutcome {
        self.take(access);
        TokenOutcome::Valid { refresh_at, expires_at }
    }

    fn warn(&self, what: &str) {
        tracing::warn!(connection = %self.source.connection, "the token store: {what}");
    }
}

/// Runs disk work where it holds up nothing.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// The wall clock: a record's times are for other processes and machines.
fn wall() -> UnixMillis {
    clock::wall()
}
