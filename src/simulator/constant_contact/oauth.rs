//! `/oauth2/token`: the refresh grant, with rotating or long-lived refresh tokens.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use super::{
    answer::Answer,
    config::VendorConfig,
    ids::Ids,
    query::{decode_base64, pairs_of},
};
use crate::model::{Text, time::UnixMillis};

/// A refresh token that is not used for 180 days serves no more, rotating or not (said by the vendor's staff).
const REFRESH_TOKEN_LIFE_MS: i64 = 180 * 86_400_000;

/// A request to the token endpoint, taken apart.
#[derive(Debug)]
pub(super) struct TokenRequest {
    client: Option<(String, String)>,
    pairs: Vec<(String, String)>,
}

impl TokenRequest {
    pub(super) fn parse(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Self {
        // The vendor's own examples put the parameters into the query; clients put them into the form.
        let mut pairs = pairs_of(body);
        pairs.extend(pairs_of(query.unwrap_or_default().as_bytes()));
        let mut request = Self { client: basic(headers), pairs };
        if request.client.is_none() {
            let secret = request.value("client_secret").unwrap_or_default().to_owned();
            request.client = request.value("client_id").map(|id| (id.to_owned(), secret));
        }
        request
    }

    /// The API key that asks; none when it does not say.
    pub(super) fn client_id(&self) -> Option<&str> {
        self.client.as_ref().map(|(id, _)| id.as_str())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
struct Issued {
    client_id: Text,
    expires: UnixMillis,
}

/// What an access token is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bearer {
    /// Issued here: the API key that it belongs to.
    Issued(Text),
    Expired,
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Oauth {
    access: BTreeMap<Text, Issued>,
    /// Refresh tokens that serve, whose they are and until when; with any client accepted, unknown ones serve too.
    refresh: BTreeMap<Text, Issued>,
    used_up: BTreeSet<Text>,
    issued: u64,
}

impl Oauth {
    pub(super) fn new(config: &VendorConfig, now: UnixMillis) -> Self {
        let refresh = config.oauth_clients.iter().map(|client| {
            let issued = Issued { client_id: Text::new(&client.client_id), expires: now.plus_ms(REFRESH_TOKEN_LIFE_MS) };
            (Text::new(&client.refresh_token), issued)
        });
        Self { refresh: refresh.collect(), ..Self::default() }
    }

    pub(super) fn bearer(&self, token: &str, now: UnixMillis) -> Bearer {
        match self.access.get(token) {
            Some(issued) if now < issued.expires => Bearer::Issued(issued.client_id.clone()),
            Some(_) => Bearer::Expired,
            None => Bearer::Unknown,
        }
    }

    /// Every access token issued so far is refused from now on.
    pub(super) fn expire_access_tokens(&mut self, now: UnixMillis) {
        for issued in self.access.values_mut() {
            issued.expires = issued.expires.min(now);
        }
    }

    pub(super) fn token(
        &mut self,
        config: &VendorConfig,
        ids: Ids,
        now: UnixMillis,
        request: &TokenRequest,
    ) -> Result<Answer, Answer> {
        let invalid_client =
            || Answer::oauth(StatusCode::UNAUTHORIZED, "invalid_client", "The client is unknown or its secret is wrong.");
        let (client_id, client_secret) = request.client.as_ref().ok_or_else(invalid_client)?;
        let known =
            config.oauth_clients.iter().any(|client| client.client_id == *client_id && client.client_secret == *client_secret);
        if !known && !config.oauth_clients.is_empty() {
            return Err(invalid_client());
        }
        let bad_request = |error, description| Answer::oauth(StatusCode::BAD_REQUEST, error, description);
        if request.value("grant_type") != Some("refresh_token") {
            return Err(bad_request("unsupported_grant_type", "The grant type is not supported here."));
        }
        let presented = request.value("refresh_token").filter(|token| !token.is_empty());
        let presented = presented.ok_or_else(|| bad_request("invalid_request", "refresh_token is missing."))?;
        let serves = match self.refresh.get(presented) {
            Some(issued) => issued.client_id == client_id.as_str() && now < issued.expires,
            None => config.oauth_clients.is_empty() && !self.used_up.contains(presented),
        };
        if !serves {
            return Err(bad_request("invalid_grant", "The refresh token is invalid or expired."));
        }
        self.issued += 1;
        let refresh = if config.rotating_refresh_tokens {
            self.refresh.remove(presented);
            self.used_up.insert(Text::new(presented));
            ids.token("r-", self.issued * 2)
        } else {
            presented.to_owned()
        };
        let issued = |life_ms| Issued { client_id: Text::new(client_id), expires: now.plus_ms(life_ms) };
        self.refresh.insert(Text::new(&refresh), issued(REFRESH_TOKEN_LIFE_MS));
        let access = ids.token("a-", self.issued * 2 + 1);
        let life_ms = i64::try_from(config.access_token_life_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        self.access.insert(Text::new(&access), issued(life_ms));
        let body = json!({
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": config.access_token_life_s,
            "scope": "contact_data offline_access",
            "refresh_token": refresh,
        });
        Ok(Answer::json(StatusCode::OK, &body))
    }
}

/// Client id and secret of HTTP Basic, each form-encoded as OAuth 2 has it.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let coded = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let plain = String::from_utf8(decode_base64(coded.trim())?).ok()?;
    let (id, secret) = plain.split_once(':')?;
    let decoded = |text: &str| pairs_of(text.as_bytes()).into_iter().next().map_or_else(String::new, |(name, _)| name);
    Some((decoded(id), decoded(secret)))
}
