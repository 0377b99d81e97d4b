//! THE PROTOCOL, pure: words to `http` requests, `http` responses to words.
//!
//! Both drivers of the engine pass through here, so every simulated run exercises it too, and "a 200 with errors
//! inside" is decided once. Source: the vendor's OpenAPI description of API v3 and its API guide.
//!
//! May know: `model`, `http`, `serde_json`, `csv`, `url`, `oauth2`.

pub mod csv;
pub mod error;
pub mod limits;
pub mod oauth;
pub mod request;
pub mod response;

mod wire;
