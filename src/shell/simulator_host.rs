//! The model of the vendor behind a real socket: for the demo, for tests, for whoever wants to try the stage out.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{Request, Response, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    model::{ListId, Text, call::ContactStatus, hash::text_hash},
    simulator::constant_contact::{Caller, PlantedContact, Vendor, VendorConfig, caller},
};

/// The clock by which the model lives.
pub use super::clock::wall;

/// The largest request body; an import that is cut by the vendor must fit.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A vendor that several tasks look at; one lock, held for one request at a time.
#[derive(Debug, Clone)]
pub struct SharedVendor(Arc<Mutex<Vendor>>);

impl SharedVendor {
    fn new(vendor: Vendor) -> Self {
        Self(Arc::new(Mutex::new(vendor)))
    }

    /// The vendor, brought to the present.
    pub fn lock(&self) -> MutexGuard<'_, Vendor> {
        let mut vendor = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        vendor.advance(wall());
        vendor
    }
}

/// The accounts behind one address.
#[derive(Debug, Clone)]
struct Accounts {
    /// Everybody's, or that of requests that do not say whose they are.
    first: SharedVendor,
    keys: Option<Arc<Keys>>,
}

/// An account for each API key, made when the key comes first.
#[derive(Debug)]
struct Keys {
    config: VendorConfig,
    known: Mutex<BTreeMap<Text, SharedVendor>>,
}

impl Accounts {
    /// The account that a request is for.
    fn of(&self, request: &Request<Bytes>) -> SharedVendor {
        let Some(keys) = &self.keys else { return self.first.clone() };
        match caller(request) {
            Caller::Application(client_id) => keys.account(client_id),
            Caller::Bearer(token) => keys.issued(&token).unwrap_or_else(|| keys.account(token)),
            Caller::Nobody => self.first.clone(),
        }
    }

    /// The account of a key: of that client id, or of that access token, where it is a fixed one.
    fn named(&self, key: Option<Text>) -> SharedVendor {
        self.keys.as_ref().zip(key).map_or_else(|| self.first.clone(), |(keys, key)| keys.account(key))
    }
}

impl Keys {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Text, SharedVendor>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issued(&self, token: &str) -> Option<SharedVendor> {
        self.lock().values().find(|vendor| vendor.lock().issued(token)).cloned()
    }

    fn account(&self, key: Text) -> SharedVendor {
        // Ids and tokens of two accounts never meet.
        let seed = self.config.seed ^ text_hash(&key);
        let made = || SharedVendor::new(Vendor::new(VendorConfig { seed, ..self.config.clone() }, wall()));
        self.lock().entry(key).or_insert_with(made).clone()
    }
}

/// A running simulator.
#[derive(Debug)]
pub struct SimulatorHost {
    address: SocketAddr,
    vendor: SharedVendor,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<io::Result<()>>,
}

impl SimulatorHost {
    /// Listens and serves one account until it is stopped.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(listen: SocketAddr, vendor: Vendor) -> io::Result<Self> {
        Self::serve(listen, Accounts { first: SharedVendor::new(vendor), keys: None }).await
    }

    /// The same with an account like this for each API key that comes: known by its client id, or by its access token,
    /// where that was not issued here.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start_for_each_key(listen: SocketAddr, config: VendorConfig) -> io::Result<Self> {
        let first = SharedVendor::new(Vendor::new(config.clone(), wall()));
        let keys = Keys { config, known: Mutex::default() };
        Self::serve(listen, Accounts { first, keys: Some(Arc::new(keys)) }).await
    }

    async fn serve(listen: SocketAddr, accounts: Accounts) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let vendor = accounts.first.clone();
        let routes = Router::new()
            .route("/_simulator/report", get(report))
            .route("/_simulator/contacts", post(plant_contacts))
            .route("/_simulator/lists", post(plant_list))
            .route("/_simulator/lists/{id}/members", get(members))
            .fallback(api)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(accounts);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            // A dropped host stops too.
            axum::serve(listener, routes).with_graceful_shutdown(async move { drop(stopped.await) }).await
        });
        Ok(Self { address, vendor, stop, serving })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base of the API, without a slash at its end.
    #[must_use]
    pub fn api(&self) -> String {
        format!("http://{}/v3", self.address)
    }

    /// The model behind it; with an account for each key, that of requests that do not say whose they are.
    #[must_use]
    pub fn vendor(&self) -> SharedVendor {
        self.vendor.clone()
    }

    /// Stops after the requests in flight.
    ///
    /// # Errors
    /// The server had failed before.
    pub async fn stop(self) -> io::Result<()> {
        drop(self.stop);
        self.serving.await.map_err(io::Error::other)?
    }
}

async fn api(State(accounts): State<Accounts>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let request: Request<Bytes> = Request::from_parts(parts, body);
    let response = accounts.of(&request).lock().handle(wall(), &request);
    response.map(Body::from)
}

/// Which account is meant, where each API key has one.
#[derive(Deserialize)]
struct Which {
    account: Option<Text>,
}

async fn report(State(accounts): State<Accounts>, Query(which): Query<Which>) -> Response<Body> {
    let report = accounts.named(which.account).lock().report();
    Json(report).into_response()
}

#[derive(Deserialize)]
struct ContactToPlant {
    email: Text,
    #[serde(default = "active")]
    status: ContactStatus,
    #[serde(default)]
    lists: Vec<Text>,
}

const fn active() -> ContactStatus {
    ContactStatus::Active
}

async fn plant_contacts(
    State(accounts): State<Accounts>,
    Query(which): Query<Which>,
    Json(contacts): Json<Vec<ContactToPlant>>,
) -> Response<Body> {
    let vendor = accounts.named(which.account);
    let mut vendor = vendor.lock();
    let known = vendor.lists();
    let mut planted = Vec::with_capacity(contacts.len());
    for (index, contact) in contacts.into_iter().enumerate() {
        let mut lists = Vec::with_capacity(contact.lists.len());
        for wanted in &contact.lists {
            let found = known.iter().find(|(id, name)| name == wanted || wanted.parse() == Ok(*id));
            let Some((id, _)) = found else { return refused(&format!("contact {index} names a list that does not exist")) };
            lists.push(*id);
        }
        planted.push(PlantedContact { address: contact.email, status: contact.status, lists });
    }
    for (index, contact) in planted.iter().enumerate() {
        if !vendor.plant_contact(contact) {
            return refused(&format!("contact {index} has no valid address, or more than 50 lists"));
        }
    }
    (StatusCode::CREATED, Json(json!({ "planted": planted.len() }))).into_response()
}

fn refused(message: &str) -> Response<Body> {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": message }))).into_response()
}

#[derive(Deserialize)]
struct ListToPlant {
    name: String,
}

async fn plant_list(
    State(accounts): State<Accounts>,
    Query(which): Query<Which>,
    Json(list): Json<ListToPlant>,
) -> Response<Body> {
    let id = accounts.named(which.account).lock().plant_list(&list.name);
    (StatusCode::CREATED, Json(json!({ "list_id": id, "name": list.name }))).into_response()
}

async fn members(State(accounts): State<Accounts>, Query(which): Query<Which>, Path(id): Path<ListId>) -> Response<Body> {
    let members = accounts.named(which.account).lock().list_members(id);
    Json(members).into_response()
}
