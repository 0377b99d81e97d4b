//! Writer schemas by id, from a registry with Confluent's interface.
//!
//! Asks the configured address alone: no redirects, no addresses out of answers, bounded bodies.

use std::{collections::BTreeSet, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::codec::SchemaId;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How many schemas one may refer to, directly and by way of others.
const REFERENCES_MAX: usize = 64;
/// An unknown id is asked again for so long: a producer may be faster than the registry's replicas.
const UNKNOWN: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What a registry says of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its schema.
    Schema {
        /// As JSON.
        schema: String,
        /// Those that it refers to, each before those that refer to it.
        references: Vec<String>,
    },
    /// The registry does not know it.
    Unknown,
    /// No answer that says anything about it.
    Unreachable {
        /// Why, without a secret.
        reason: String,
    },
}

/// What is known of an id in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// Its schema.
    Schema {
        /// As JSON.
        schema: String,
        /// Those that it refers to, each before those that refer to it.
        references: Vec<String>,
    },
    /// The registry does not know it, also after it was asked again for 10 s.
    Unknown,
}

/// A registry could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the client for the schema registry cannot be made: {0}")]
pub struct RegistryFault(String);

/// A schema registry.
#[derive(Debug, Clone)]
pub struct SchemaRegistry {
    client: Client,
    url: Url,
    username: Option<String>,
    password: Option<SecretString>,
}

#[derive(Deserialize)]
struct Body {
    schema: String,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
}

impl SchemaRegistry {
    /// A registry at an address. The process must have chosen its TLS provider before.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(url: Url, username: Option<String>, password: Option<SecretString>) -> Result<Self, RegistryFault> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()
            .map_err(|error| RegistryFault(error.without_url().to_string()))?;
        Ok(Self { client, url, username, password })
    }

    /// Asks until there is an answer that counts; `tell` hears why it waits, and `None` when it need not any more.
    pub async fn resolve(&self, id: SchemaId, tell: impl Fn(Option<String>)) -> Resolved {
        let mut unknown_since: Option<Instant> = None;
        let mut wait = ASK_AGAIN;
        loop {
            match self.ask(id).await {
                Answer::Schema { schema, references } => {
                    tell(None);
                    return Resolved::Schema { schema, references };
                }
                Answer::Unknown => {
                    tell(None);
                    if unknown_since.get_or_insert_with(Instant::now).elapsed() >= UNKNOWN {
                        return Resolved::Unknown;
                    }
                    wait = ASK_AGAIN;
                }
                Answer::Unreachable { reason } => {
                    tracing::warn!(schema = id.0, "events wait for the schema registry: {reason}");
                    tell(Some(reason));
                    wait = (wait * 2).min(WAIT_MAX);
                }
            }
            sleep(wait).await;
        }
    }

    /// Asks once.
    pub async fn ask(&self, id: SchemaId) -> Answer {
        match self.fetch(&["schemas", "ids", &id.0.to_string()]).await {
            Ok(Some(body)) => {
                let schema = body.schema.clone();
                match self.references(body.references).await {
                    Ok(Some(references)) => Answer::Schema { schema, references },
                    Ok(None) => Answer::Unknown,
                    Err(reason) => Answer::Unreachable { reason },
                }
            }
            Ok(None) => Answer::Unknown,
            Err(reason) => Answer::Unreachable { reason },
        }
    }

    /// Registers a schema under a subject, or finds that it is there; gives its id.
    ///
    /// # Errors
    /// Why there is no id, without a secret.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<SchemaId, String> {
        let url = self.address(&["subjects", subject, "versions"])?;
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        let media = "application/vnd.schemaregistry.v1+json";
        let request = self.client.post(url).header(reqwest::header::CONTENT_TYPE, media).body(body);
        let (status, body) = self.answer(request).await?;
        match status {
            StatusCode::OK | StatusCode::CREATED => serde_json::from_slice::<Registered>(&body)
                .map(|registered| SchemaId(registered.id))
                .map_err(|_| "its answer is no schema id".into()),
            StatusCode::CONFLICT => Err("the subject has another schema, which this one is not compatible with".into()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(format!("it refuses the sign-in ({status})")),
            other => Err(format!("it answers {other}")),
        }
    }

    /// All that is referred to, what is needed first in front; `None` when the registry does not know one of them.
    async fn references(&self, direct: Vec<Reference>) -> Result<Option<Vec<String>>, String> {
        enum Step {
            Fetch(Reference),
            Done(String),
        }
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let mut steps: Vec<Step> = direct.into_iter().rev().map(Step::Fetch).collect();
        while let Some(step) = steps.pop() {
            match step {
                Step::Done(schema) => found.push(schema),
                Step::Fetch(reference) => {
                    let version = reference.version.to_string();
                    if !seen.insert((reference.subject.clone(), reference.version)) {
                        continue;
                    }
                    if seen.len() > REFERENCES_MAX {
                        return Err(format!("a schema refers to more than {REFERENCES_MAX} others"));
                    }
                    let Some(body) = self.fetch(&["subjects", &reference.subject, "versions", &version]).await? else {
                        return Ok(None);
                    };
                    steps.push(Step::Done(body.schema));
                    steps.extend(body.references.into_iter().rev().map(Step::Fetch));
                }
            }
        }
        Ok(Some(found))
    }

    /// One request; `None` when the registry says that it has no such thing.
    async fn fetch(&self, path: &[&str]) -> Result<Option<Body>, String> {
        let (status, body) = self.answer(self.client.get(self.address(path)?)).await?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body)
                .map(Some)
                .map_err(|_| "its answer is no schema: check `source.avro.registry_url`".into());
        }
        if status == StatusCode::NOT_FOUND {
            // 404 alone may be a wrong address; the registry's own word for "no such schema, subject or version" is not.
            let known =
                serde_json::from_slice::<Refusal>(&body).is_ok_and(|refusal| (40_401..=40_403).contains(&refusal.error_code));
            return if known { Ok(None) } else { Err("it answers 404 to everything: check `source.avro.registry_url`".into()) };
        }
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                format!("it refuses the sign-in ({status}): check `username` and `password_file` of `source.avro`")
            }
            other => format!("it answers {other}"),
        })
    }

    fn address(&self, path: &[&str]) -> Result<Url, String> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => return Err("`source.avro.registry_url` is no address that has a path".into()),
        };
        Ok(url)
    }

    /// A request's status and body.
    async fn answer(&self, mut request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), String> {
        request = request.header(reqwest::header::ACCEPT, "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(username) = &self.username {
            request = request.basic_auth(username, self.password.as_ref().map(|password| password.expose_secret()));
        }
        let mut response = request.send().await.map_err(|error| describe(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(format!("its answer is larger than {BODY_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

/// An error without its address, which may hold a password.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "it does not answer in time".into()
    } else if error.is_connect() {
        "it cannot be connected to".into()
    } else {
        "the connection broke".into()
    }
}
