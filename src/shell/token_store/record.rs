//! What a token store holds of one connection.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::model::time::UnixMillis;

/// A connection's token. Whoever signs in by hand writes the client id and the refresh token alone; the rest follows
/// with the first refresh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The application that the token was given to.
    pub client_id: String,
    /// Counts the changes: a writer replaces only the version that it began with.
    #[serde(default)]
    pub version: u64,
    /// What calls carry.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_if")]
    pub access_token: Option<SecretString>,
    /// What the next access token is asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_if")]
    pub refresh_token: Option<SecretString>,
    /// When it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obtained_at: Option<Timestamp>,
    /// When the access token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it should be refreshed: at 80 % of its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_at: Option<Timestamp>,
}

/// The store is the one place that a token is written to.
fn exposed_if<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|secret| secret.expose_secret()).serialize(serializer)
}

impl TokenRecord {
    /// The record that follows this one after a refresh. Without a new refresh token the old one stays.
    #[must_use]
    pub fn refreshed(&self, access: SecretString, refresh: Option<SecretString>, life_s: Option<u64>, now: UnixMillis) -> Self {
        let after = |percent: u64| {
            let life_ms = i64::try_from(life_s?.saturating_mul(10).saturating_mul(percent)).ok()?;
            timestamp(now.plus_ms(life_ms))
        };
        Self {
            client_id: self.client_id.clone(),
            version: self.version.saturating_add(1),
            access_token: Some(access),
            refresh_token: refresh.or_else(|| self.refresh_token.clone()),
            obtained_at: timestamp(now),
            expires_at: after(100),
            refresh_at: after(80),
        }
    }

    /// Whether the access token is to be refreshed by now.
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.access_token.is_none() || self.refreshes_at().is_some_and(|at| at <= now)
    }

    /// Whether the access token still works, as far as its times tell.
    #[must_use]
    pub fn is_alive(&self, now: UnixMillis) -> bool {
        self.access_token.is_some() && self.expires().is_none_or(|at| at > now)
    }

    /// When the access token ends.
    #[must_use]
    pub fn expires(&self) -> Option<UnixMillis> {
        self.expires_at.map(|at| UnixMillis(at.as_millisecond()))
    }

    /// When it should be refreshed.
    #[must_use]
    pub fn refreshes_at(&self) -> Option<UnixMillis> {
        self.refresh_at.or(self.expires_at).map(|at| UnixMillis(at.as_millisecond()))
    }
}

fn timestamp(at: UnixMillis) -> Option<Timestamp> {
    Timestamp::from_millisecond(at.0).ok()
}
