//! A model of Constant Contact: one pure state machine, request in, response out.
//!
//! Written from the vendor's `OpenAPI` file and what is known of its behaviour, without a look at the stage's own
//! protocol layer: it is the independent check of it. Time is an argument, chance comes from a seed.

mod account;
mod activities;
mod answer;
mod config;
mod contacts;
mod ids;
mod import;
mod limits;
mod lists;
mod members;
mod oauth;
mod query;
mod removal;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::Value;

use self::{
    account::{Account, Joined},
    activities::{Activities, Work},
    answer::{Answer, second},
    ids::Ids,
    import::Import,
    limits::{Excess, Limits},
    oauth::{Bearer, Oauth, TokenRequest},
    query::Query,
    removal::{Deletion, Removal},
};
pub use self::{
    activities::{Applied, OpenActivity},
    config::{ActivityTime, BadEndings, Execution, OauthClient, SourceAmongTargets, SurplusLines, VendorConfig},
    limits::Violation,
    report::{ListReport, Report},
};
use crate::model::{
    ListId, Text, address,
    call::{CallKind, ContactStatus},
    time::{UnixMillis, UtcDay},
};

/// The API key of requests whose token does not say.
const ANY_KEY: &str = "any";
const TOKEN_PATH: &str = "/oauth2/token";

/// A contact that is there from the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlantedContact {
    /// Its address.
    pub address: Text,
    /// Whether it may be sent to.
    pub status: ContactStatus,
    /// The lists it is on; a deleted contact is on none.
    pub lists: Vec<ListId>,
}

/// One account of Constant Contact, with its API in front of it.
#[derive(Debug)]
pub struct Vendor {
    config: VendorConfig,
    now: UnixMillis,
    random: fastrand::Rng,
    account: Account,
    activities: Activities,
    limits: Limits,
    oauth: Oauth,
    by_kind: BTreeMap<&'static str, u64>,
    refused_by_status: BTreeMap<u16, u64>,
}

/// What a request is for, in the words of the stage's metrics.
fn kind(method: &Method, path: &str, query: &str) -> &'static str {
    let known = match (method.as_str(), path) {
        ("POST", TOKEN_PATH) => CallKind::Token,
        ("POST", "/v3/activities/contacts_file_import") => CallKind::Import,
        ("POST", "/v3/activities/remove_list_memberships") => CallKind::Remove,
        ("GET", path) if path.starts_with("/v3/activities") => CallKind::Poll,
        (_, path) if path.starts_with("/v3/contact_lists") => CallKind::Lists,
        ("GET", "/v3/contacts/counts") => CallKind::Counts,
        ("GET", "/v3/contacts") => match Query::parse(Some(query)) {
            Ok(query) if query.value("email").is_some() => CallKind::LookUp,
            Ok(query) if query.value("lists").is_some() => CallKind::Scan,
            Ok(query) if query.value("status").is_some() => CallKind::Suppression,
            Ok(_) | Err(_) => return "other",
        },
        _ => return "other",
    };
    known.as_str()
}

/// Who a request says that it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The application with this client id, which asks for tokens.
    Application(Text),
    /// Whoever has this access token.
    Bearer(Text),
    /// It does not say.
    Nobody,
}

/// Who a request says that it is from: for a host that has an account for each API key.
#[must_use]
pub fn caller(request: &Request<Bytes>) -> Caller {
    if request.uri().path() == TOKEN_PATH {
        let request = TokenRequest::parse(request.headers(), request.uri().query(), request.body());
        return request.client_id().map_or(Caller::Nobody, |id| Caller::Application(Text::new(id)));
    }
    bearer(request).map_or(Caller::Nobody, |token| Caller::Bearer(Text::new(token)))
}

fn bearer(request: &Request<Bytes>) -> Option<&str> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    header.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

fn json_body(request: &Request<Bytes>) -> Result<Value, Answer> {
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media.starts_with("application/json") {
        return Err(Answer::unsupported_media_type("Content-Type must be application/json"));
    }
    serde_json::from_slice(request.body()).map_err(|_| Answer::invalid("the JSON is malformed"))
}

impl Vendor {
    /// An empty account.
    #[must_use]
    pub fn new(config: VendorConfig, now: UnixMillis) -> Self {
        Self {
            now,
            random: fastrand::Rng::with_seed(config.seed),
            account: Account::new(Ids::new(config.seed)),
            activities: Activities::default(),
            limits: Limits::default(),
            oauth: Oauth::new(&config, now),
            by_kind: BTreeMap::new(),
            refused_by_status: BTreeMap::new(),
            config,
        }
    }

    /// Answers one request that arrives at `now`.
    pub fn handle(&mut self, now: UnixMillis, request: &Request<Bytes>) -> Response<Bytes> {
        self.advance(now);
        let uri = request.uri();
        *self.by_kind.entry(kind(request.method(), uri.path(), uri.query().unwrap_or_default())).or_default() += 1;
        let answer = if uri.path() == TOKEN_PATH { self.token(request) } else { self.api(request) };
        let answer = answer.unwrap_or_else(|refusal| refusal);
        if !answer.status.is_success() {
            *self.refused_by_status.entry(answer.status.as_u16()).or_default() += 1;
        }
        // What takes no time is done before the next request, also one that comes at the same instant.
        self.advance(now);
        answer.into_response(self.now)
    }

    /// How long activities take that are queued from now on.
    #[must_use]
    pub fn activity_time(&self) -> ActivityTime {
        self.config.activity_ms
    }

    /// Lets activities that are queued from now on take another time.
    pub fn set_activity_time(&mut self, time: ActivityTime) {
        self.config.activity_ms = time;
    }

    /// How activities may end that are queued from now on.
    pub fn set_bad_endings(&mut self, endings: BadEndings) {
        self.config.bad_endings = endings;
    }

    /// Activities move on by themselves. Time never goes back here.
    pub fn advance(&mut self, now: UnixMillis) {
        self.now = self.now.max(now);
        self.activities.advance(&mut self.account, &self.config, self.now);
    }

    /// When something happens next without a request.
    #[must_use]
    pub fn next_change(&self) -> Option<UnixMillis> {
        self.activities.next_change()
    }

    fn now_s(&self) -> u32 {
        u32::try_from(second(self.now)).unwrap_or(0)
    }

    fn token(&mut self, request: &Request<Bytes>) -> Result<Answer, Answer> {
        if request.method() != Method::POST {
            return Err(Answer::oauth(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "The method is POST."));
        }
        let request = TokenRequest::parse(request.headers(), request.uri().query(), request.body());
        let key = request.client_id().unwrap_or(ANY_KEY);
        if self.limits.token_exceeds(key, self.now, self.config.token_calls_per_second) {
            return Err(Answer::throttled());
        }
        self.oauth.token(&self.config, self.account.ids, self.now, &request)
    }

    /// Whether an access token was issued here, also when it serves no more.
    #[must_use]
    pub fn issued(&self, token: &str) -> bool {
        self.oauth.bearer(token, self.now) != Bearer::Unknown
    }

    /// The API key behind the request's bearer token.
    fn key(&self, request: &Request<Bytes>) -> Result<Text, Answer> {
        let token = bearer(request).ok_or_else(Answer::unauthorized)?;
        match self.oauth.bearer(token, self.now) {
            Bearer::Issued(client_id) => Ok(client_id),
            Bearer::Expired => Err(Answer::unauthorized()),
            Bearer::Unknown if self.config.access_token.as_deref().is_none_or(|accepted| accepted == token) => {
                Ok(Text::new(ANY_KEY))
            }
            Bearer::Unknown => Err(Answer::unauthorized()),
        }
    }

    fn api(&mut self, request: &Request<Bytes>) -> Result<Answer, Answer> {
        let path = request.uri().path();
        let key = self.key(request)?;
        let what = format!("{} {path}", request.method());
        let excess = self.limits.admit(&key, self.now, &self.config, &what);
        match excess {
            None => {}
            Some(Excess::Second) => return Err(Answer::throttled()),
            Some(Excess::Day) => return Err(Answer::quota_exceeded()),
        }
        let query = Query::parse(request.uri().query())?;
        let now_s = self.now_s();
        let Some(path) = path.strip_prefix("/v3/") else { return Err(Answer::not_found("no such resource")) };
        let segments: Vec<&str> = path.split('/').collect();
        match (request.method().as_str(), &segments[..]) {
            ("GET", ["contact_lists"]) => lists::listing(&self.account, &query),
            ("POST", ["contact_lists"]) => lists::create(&mut self.account, &json_body(request)?, now_s),
            ("GET", ["contact_lists", id]) => lists::one(&self.account, id, &query),
            ("DELETE", ["contact_lists", id]) => {
                let list = lists::to_delete(&self.account, id)?;
                Ok(self.queue(Work::Delete(list)))
            }
            ("GET", ["contacts"]) => contacts::listing(&self.account, &query, now_s),
            ("GET", ["contacts", "counts"]) => contacts::counts(&self.account, &self.config, &query, now_s),
            ("GET", ["contacts", id]) => contacts::one(&self.account, id, &query, now_s),
            ("POST", ["activities", "contacts_file_import"]) => {
                let import = Import::parse(&self.account, &self.config, request.headers(), request.body())?;
                Ok(self.queue(Work::Import(import)))
            }
            ("POST", ["activities", "remove_list_memberships"]) => {
                let removal = Removal::parse(&self.account, &self.config, &json_body(request)?)?;
                Ok(self.queue(Work::Remove(removal)))
            }
            ("POST", ["activities", "contact_delete"]) => {
                let deletion = Deletion::parse(&self.account, &json_body(request)?)?;
                Ok(self.queue(Work::DeleteContacts(deletion)))
            }
            ("GET", ["activities"]) => self.activities.listing(&self.account, &query, self.now),
            ("GET", ["activities", id]) => self.activities.one(&self.account, id, self.now),
            (_, ["contact_lists" | "contacts" | "activities"] | ["contact_lists" | "contacts", _])
            | (_, ["activities", "contacts_file_import" | "remove_list_memberships" | "contact_delete"]) => {
                Err(Answer::method_not_allowed())
            }
            _ => Err(Answer::not_found("no such resource")),
        }
    }

    fn queue(&mut self, work: Work) -> Answer {
        self.activities.queue(&self.account, &self.config, &mut self.random, self.now, work)
    }

    /// What came and what is there.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut contacts_by_status = BTreeMap::from([("active", 0), ("unsubscribed", 0), ("deleted", 0)]);
        for contact in &self.account.contacts {
            let word = match contact.status {
                ContactStatus::Active => "active",
                ContactStatus::Unsubscribed => "unsubscribed",
                ContactStatus::Deleted => "deleted",
            };
            *contacts_by_status.entry(word).or_default() += 1;
        }
        let date = |day: i64| answer::instant(second(UtcDay(day).start())).chars().take(10).collect();
        Report {
            requests: self.by_kind.values().sum(),
            requests_by_kind: self.by_kind.clone(),
            refused_by_status: self.refused_by_status.clone(),
            max_in_a_second: self.limits.max_in_a_second,
            requests_by_day: self.limits.by_day.iter().map(|(&day, &count)| (date(day), count)).collect(),
            violations: self.limits.violations.clone(),
            violations_count: self.limits.violations_count,
            activities_by_state: self.activities.by_state(),
            contacts: self.account.contacts.len() as u64,
            contacts_by_status,
            lists: self
                .account
                .lists_there()
                .map(|(number, list)| ListReport {
                    list_id: self.account.list_id(number),
                    name: list.name.clone(),
                    members: list.members.count(),
                })
                .collect(),
        }
    }

    /// The addresses on a list, sorted; none for a list that does not exist.
    #[must_use]
    pub fn list_members(&self, list: ListId) -> Vec<Text> {
        let mut addresses: Vec<Text> = self.members(list).map(Text::new).collect();
        addresses.sort_unstable();
        addresses
    }

    /// The same in no order and without a copy, for lists that are long.
    pub fn members(&self, list: ListId) -> impl Iterator<Item = &str> {
        let numbers = self.account.list_number(list).into_iter().flat_map(|number| self.account.members(number));
        numbers.map(|number| self.account.address(number))
    }

    /// The account's lists, in the order of their making.
    #[must_use]
    pub fn lists(&self) -> Vec<(ListId, Text)> {
        self.account.lists_there().map(|(number, list)| (self.account.list_id(number), list.name.clone())).collect()
    }

    /// The id of the list of that name, which is made if there is none.
    pub fn plant_list(&mut self, name: &str) -> ListId {
        let now_s = self.now_s();
        let number = self.account.find_list(name).unwrap_or_else(|| self.account.create_list(name, now_s));
        self.account.list_id(number)
    }

    /// Puts a contact into a state and on lists; unknown lists, and lists beyond the fiftieth, are left out. False for
    /// a text that is no address.
    pub fn plant_contact(&mut self, planted: &PlantedContact) -> bool {
        let Ok(address) = address::normalise(&planted.address) else { return false };
        let now_s = self.now_s();
        let Some(number) = self.account.find_or_create(&address, now_s) else { return false };
        self.account.set_status(number, planted.status, now_s);
        if planted.status == ContactStatus::Unsubscribed && self.config.opt_out_leaves_lists {
            self.account.leave_all(number, now_s);
        }
        if planted.status == ContactStatus::Deleted {
            return true;
        }
        planted
            .lists
            .iter()
            .filter_map(|&list| self.account.list_number(list))
            .collect::<Vec<_>>()
            .into_iter()
            .all(|list| self.account.join(number, list) == Joined::Done)
    }

    /// A contact's status, and the hash of what its last import brought beside the address (0 for nothing).
    #[must_use]
    pub fn contact(&self, address: &str) -> Option<(ContactStatus, u64)> {
        let contact = self.account.contact(self.account.find(address)?)?;
        Some((contact.status, contact.fields))
    }

    /// How late its index shows members, in seconds.
    #[must_use]
    pub fn index_lag_s(&self) -> u32 {
        self.config.index_lag_s
    }

    /// The longest address that an import may bring, in bytes.
    #[must_use]
    pub fn address_bytes_max(&self) -> usize {
        self.config.address_bytes_max
    }

    /// When the last activity that is known now ends; the past, where none is open.
    #[must_use]
    pub fn last_end(&self) -> UnixMillis {
        self.activities.last_end()
    }

    /// The first request that was above a limit.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.limits.violations.first()
    }

    /// The activities that have not ended, oldest first, and whom they touch.
    #[must_use]
    pub fn activities_open(&self) -> Vec<OpenActivity> {
        self.activities.open(&self.account)
    }

    /// The application steps since the last call; only with `VendorConfig::observed`.
    pub fn drain_applied(&mut self) -> Vec<Applied> {
        self.activities.drain_applied()
    }

    /// Every access token issued so far is answered with 401 from now on.
    pub fn expire_access_tokens(&mut self) {
        self.oauth.expire_access_tokens(self.now);
    }
}
