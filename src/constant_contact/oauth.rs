//! The OAuth2 refresh flow (RFC 6749, section 6) at the vendor's token endpoint, as plain requests and responses.

use oauth2::{
    AsyncHttpClient, AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RefreshToken, RequestTokenError,
    TokenResponse as _, TokenUrl,
    basic::{BasicClient, BasicErrorResponseType},
};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::model::Text;

/// Whose token is refreshed, and with what.
#[derive(Debug)]
pub struct Refresh<'a> {
    /// The token endpoint.
    pub token_url: &'a Url,
    /// The application's client id: the API key.
    pub client_id: &'a str,
    /// The application's secret.
    pub client_secret: &'a SecretString,
    /// The refresh token: of a rotating application, usable once.
    pub refresh_token: &'a SecretString,
}

/// What the token endpoint said.
#[derive(Debug)]
pub enum TokenReply {
    /// New tokens.
    Tokens {
        /// The access token.
        access: SecretString,
        /// The next refresh token; absent where the old one stays.
        refresh: Option<SecretString>,
        /// The access token's life.
        expires_in_s: Option<u64>,
    },
    /// The refresh token is invalid, used up or expired: somebody has to sign in again.
    InvalidGrant,
    /// Something else was wrong with the request, or with the endpoint.
    Refused {
        /// The OAuth error's word, where there was one.
        error_key: Option<Text>,
    },
    /// The request could not be made, or its answer not be read. Whether a rotating token was used up is unknown.
    Lost,
}

/// Refreshes through `client`, which sends one request without following redirects or retrying.
///
/// Nothing of the endpoint's body is kept but tokens and the error's word: the crate's parse error holds all of it.
pub async fn refresh<C>(refresh: Refresh<'_>, client: &C) -> TokenReply
where
    C: for<'c> AsyncHttpClient<'c>,
{
    let oauth = BasicClient::new(ClientId::new(refresh.client_id.to_owned()))
        .set_client_secret(ClientSecret::new(refresh.client_secret.expose_secret().to_owned()))
        .set_auth_type(AuthType::BasicAuth)
        .set_token_uri(TokenUrl::from_url(refresh.token_url.clone()));
    let token = RefreshToken::new(refresh.refresh_token.expose_secret().to_owned());
    match oauth.exchange_refresh_token(&token).request_async(client).await {
        Ok(tokens) => TokenReply::Tokens {
            access: SecretString::from(tokens.access_token().secret().as_str()),
            // An application without `offline_access` is given an empty one, which must not replace the one that works.
            refresh: tokens
                .refresh_token()
                .map(|token| token.secret().as_str())
                .filter(|token| !token.is_empty())
                .map(SecretString::from),
            expires_in_s: tokens.expires_in().map(|life| life.as_secs()),
        },
        Err(RequestTokenError::ServerResponse(response)) => match response.error() {
            BasicErrorResponseType::InvalidGrant => TokenReply::InvalidGrant,
            other @ (BasicErrorResponseType::InvalidClient
            | BasicErrorResponseType::InvalidRequest
            | BasicErrorResponseType::InvalidScope
            | BasicErrorResponseType::UnauthorizedClient
            | BasicErrorResponseType::UnsupportedGrantType
            | BasicErrorResponseType::Extension(_)) => TokenReply::Refused { error_key: super::error::plain_key(other.as_ref()) },
        },
        Err(RequestTokenError::Request(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_)) => TokenReply::Lost,
    }
}

/// The crate's request and response, for those who send them.
pub type TokenHttpRequest = HttpRequest;
/// See [`TokenHttpRequest`].
pub type TokenHttpResponse = HttpResponse;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn ask(status: u16, body: &'static str) -> (TokenReply, String, String) {
        let seen = std::sync::Mutex::new((String::new(), String::new()));
        let client = |request: HttpRequest| -> Ready<Result<HttpResponse, Infallible>> {
            let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
            *seen.lock().unwrap() = (authorization, String::from_utf8(request.body().clone()).unwrap());
            let mut response = http::Response::new(body.as_bytes().to_vec());
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            ready(Ok(response))
        };
        let url = Url::parse("http://127.0.0.1:1/token").unwrap();
        let (secret, token) = (SecretString::from("s3"), SecretString::from("r1"));
        let question = Refresh { token_url: &url, client_id: "id", client_secret: &secret, refresh_token: &token };
        let mut future = Box::pin(refresh(question, &client));
        let Poll::Ready(reply) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("waits") };
        drop(future);
        let (authorization, form) = seen.lock().unwrap().clone();
        (reply, authorization, form)
    }

    #[test]
    fn a_refresh_is_a_form_with_basic_credentials() {
        let (reply, authorization, form) =
            ask(200, r#"{"access_token":"a2","token_type":"Bearer","expires_in":86400,"refresh_token":"r2"}"#);
        assert_eq!(authorization, "Basic aWQ6czM=");
        assert_eq!(form, "grant_type=refresh_token&refresh_token=r1");
        let TokenReply::Tokens { access, refresh, expires_in_s } = reply else { panic!("{reply:?}") };
        assert_eq!((access.expose_secret(), expires_in_s), ("a2", Some(86_400)));
        assert_eq!(refresh.unwrap().expose_secret(), "r2");
    }

    #[test]
    fn an_empty_refresh_token_is_none() {
        let (reply, _, _) = ask(200, r#"{"access_token":"a2","token_type":"Bearer","refresh_token":""}"#);
        assert!(matches!(reply, TokenReply::Tokens { refresh: None, .. }));
    }

    #[test]
    fn a_used_up_token_is_told_from_other_faults() {
        let (reply, _, _) =
            ask(400, r#"{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}"#);
        assert!(matches!(reply, TokenReply::InvalidGrant));
        let (reply, _, _) = ask(401, r#"{"error":"invalid_client"}"#);
        assert!(matches!(reply, TokenReply::Refused { .. }));
        let (reply, _, _) = ask(400, r#"{"error":"ana@example.com"}"#);
        assert!(matches!(reply, TokenReply::Refused { error_key: None }));
        let (reply, _, _) = ask(502, "<html>");
        assert!(matches!(reply, TokenReply::Lost));
    }
}
