//! The stage in one process: its membership in the group, a term for each shard that it owns, the admin port.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::{
    codec::{ChangeNames, EventDecoder, EventFormat, FieldPaths, SchemaFault},
    config::{Config, SourceFormat},
    model::catalog::Catalog,
    telemetry::Telemetry,
};

use super::{
    admin, clock, driver, http,
    kafka::{Claim, KafkaFault, KafkaSettings, KafkaStatus, Ownership, OwnershipEvent, topics},
    orders::Orders,
    schema_registry::{RegistryFault, SchemaRegistry},
    token_store::{TokenSource, Tokens},
    view::{ShardView, Views},
};

/// After a failure a term, or the look at the topics, begins again after this long, and later each time.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// A term that lasted this long was no failure of its beginning.
const LASTED_MS: u64 = 60_000;
/// What a drain may take beyond its deadline: the last transaction, and leaving the group.
const DRAIN_MARGIN: Duration = Duration::from_secs(20);
/// What storing a token may take beyond the deadline of the request for it: its lock, above all.
const TOKEN_MARGIN: Duration = Duration::from_secs(6);

/// What the configuration does not say.
#[derive(Debug, Clone, Default)]
pub struct StageOptions {
    /// Where other replicas reach this one's admin port, as `host:port`; where it listens when absent.
    pub address: Option<String>,
}

/// Why the stage cannot start, or has ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum StageFault {
    /// The admin port.
    #[error("cannot listen on {listen} (`admin.listen`): {error}; choose another port, or end what listens there")]
    Admin {
        /// Where.
        listen: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The HTTP client.
    #[error("no HTTP client can be made: {0}; are root certificates installed (Debian: ca-certificates)?")]
    Client(reqwest::Error),
    /// The registry's client.
    #[error(transparent)]
    Registry(#[from] RegistryFault),
    /// The file with the writer's schema.
    #[error("{path} (`source.avro.schema_file`) cannot be read: {error}")]
    SchemaFile {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The writer's schema.
    #[error("the schema of the source cannot be used: {0}")]
    Schema(SchemaFault),
    /// The membership.
    #[error(transparent)]
    Kafka(#[from] KafkaFault),
    /// A part ended that never should.
    #[error("{0}; the process has to start anew")]
    Ended(String),
}

/// What a shard's task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Work.
    Own,
    /// Finish what can be finished, then end.
    Drain,
    /// End at once: the shard is somebody else's.
    Stop,
}

/// What all shards share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) settings: Arc<KafkaSettings>,
    pub(super) status: KafkaStatus,
    pub(super) views: Views,
    pub(super) orders: Orders,
    pub(super) client: reqwest::Client,
    pub(super) registry: Option<SchemaRegistry>,
    format: EventFormat,
    address: String,
    /// What asks the group who owns a shard, once this replica is a member.
    claim: Mutex<Option<Claim>>,
    /// One for each connection of the configuration: tokens follow their store, not a term.
    tokens: Mutex<BTreeMap<u32, Arc<Tokens>>>,
}

/// The running stage. Dropped, it ends without a drain.
#[derive(Debug)]
pub struct Stage {
    shared: Arc<Shared>,
    admin_address: SocketAddr,
    stop: watch::Sender<bool>,
    /// `None` once its end was told.
    supervisor: Option<JoinHandle<Result<(), StageFault>>>,
    admin: JoinHandle<std::io::Result<()>>,
}

impl Stage {
    /// Serves the admin port and joins the group; brokers that do not answer are waited for.
    ///
    /// # Errors
    /// What no waiting helps with: the port, TLS, the schema's file.
    pub async fn start(config: Arc<Config>, telemetry: Arc<Telemetry>, options: StageOptions) -> Result<Self, StageFault> {
        let listen = config.admin.listen;
        let listener = TcpListener::bind(listen).await.map_err(|error| StageFault::Admin { listen, error })?;
        let admin_address = listener.local_addr().map_err(|error| StageFault::Admin { listen, error })?;
        let client = http::client().map_err(|error| StageFault::Client(error.without_url()))?;
        let (format, registry) = match &config.source.format {
            SourceFormat::Avro(registry) => {
                let found = SchemaRegistry::new(registry.url.clone(), registry.username.clone(), registry.password.clone())?;
                (EventFormat::AvroRegistry, Some(found))
            }
            SourceFormat::AvroFile { schema_file } => {
                let path = schema_file.clone();
                let schema = std::fs::read_to_string(&path).map_err(|error| StageFault::SchemaFile { path, error })?;
                (EventFormat::AvroFile { schema }, None)
            }
            SourceFormat::Json => (EventFormat::Json, None),
        };
        let settings = Arc::new(KafkaSettings::new(&config));
        let shared = Arc::new(Shared {
            telemetry,
            settings,
            status: KafkaStatus::default(),
            views: Views::default(),
            orders: Orders::default(),
            claim: Mutex::default(),
            client,
            registry,
            format,
            address: options.address.unwrap_or_else(|| admin_address.to_string()),
            tokens: Mutex::default(),
            config,
        });
        // A schema that cannot be used is found now, not by a term that fails again and again.
        shared.decoder(&shared.config.catalog).map_err(StageFault::Schema)?;
        let (stop, stopping) = watch::channel(false);
        let admin = tokio::spawn(admin::serve(listener, Arc::clone(&shared)));
        let supervisor = tokio::spawn(supervise(Arc::clone(&shared), stopping));
        Ok(Self { shared, admin_address, stop, supervisor: Some(supervisor), admin })
    }

    /// Where the admin port listens.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What the owned shards show of themselves, not older than about a tenth of a second.
    #[must_use]
    pub fn view(&self) -> Vec<ShardView> {
        self.shared.views.all()
    }

    /// Finishes what can be finished in the drain time, commits, and leaves the group, so that a standby takes over at
    /// once.
    ///
    /// # Errors
    /// It had ended by itself before.
    pub async fn stop(mut self) -> Result<(), StageFault> {
        self.stop.send_replace(true);
        let ended = match self.supervisor.take() {
            Some(supervisor) => joined(supervisor.await),
            None => Ok(()),
        };
        self.admin.abort();
        ended
    }

    /// Waits until the stage has ended by itself, which it does only when going on makes no sense.
    pub async fn ended(&mut self) -> StageFault {
        let Some(supervisor) = &mut self.supervisor else { return StageFault::Ended("the stage has ended".into()) };
        tokio::select! {
            ended = supervisor => {
                self.supervisor = None;
                joined(ended).err().unwrap_or_else(|| StageFault::Ended("the stage was stopped".into()))
            }
            ended = &mut self.admin => StageFault::Ended(format!("the admin port ended: {ended:?}")),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.abort();
        }
        self.admin.abort();
    }
}

fn joined(ended: Result<Result<(), StageFault>, tokio::task::JoinError>) -> Result<(), StageFault> {
    ended.unwrap_or_else(|error| Err(StageFault::Ended(format!("a task of the stage ended: {error}"))))
}

impl Shared {
    /// A decoder for the fields that a catalog maps.
    ///
    /// # Errors
    /// The schema of the file cannot be used.
    pub(super) fn decoder(&self, catalog: &Catalog) -> Result<EventDecoder, SchemaFault> {
        let fields = &self.config.source.fields;
        let paths = FieldPaths {
            profile_id: fields.profile_id.clone(),
            segment_id: fields.segment_id.clone(),
            change: fields.change.clone(),
            occurred_at: fields.occurred_at.clone(),
            changes: ChangeNames {
                entered: fields.entered.clone(),
                exited: fields.exited.clone(),
                updated: fields.updated.clone(),
            },
            mapped: catalog.fields.clone(),
        };
        EventDecoder::new(paths, self.format.clone())
    }

    /// The tokens of a shard's connections; the same for each of its terms.
    pub(super) fn tokens(&self, shard: u32, catalog: &Catalog) -> Arc<Tokens> {
        let mut known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let number = |name| self.config.connections.iter().position(|connection| connection.name == name);
            let application = |name| self.config.applications.iter().position(|application| application.name == name);
            let sources = catalog.connections.iter().filter_map(|connection| {
                let owner = &catalog.application(connection.application).name;
                Some(TokenSource::new(&self.config, number(connection.name.clone())?, application(owner.clone())?))
            });
            Arc::new(Tokens::new(&self.client, sources.collect()))
        };
        Arc::clone(known.entry(shard).or_insert_with(made))
    }

    /// Waits until what the token endpoint was asked is answered and stored: a rotating token is given once.
    async fn tokens_finished(&self) {
        let known: Vec<Arc<Tokens>> = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let finished = async {
            for tokens in known {
                tokens.finished().await;
            }
        };
        let limit = Duration::from_millis(self.config.catalog.timing.request_deadline_ms) + TOKEN_MARGIN;
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("an answer of the token endpoint was not awaited any longer");
        }
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) fn claim(&self) -> Option<Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits for good topics, joins the group, and follows the group's word on who owns what.
async fn supervise(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) -> Result<(), StageFault> {
    tokio::select! {
        () = prepare(&shared) => {}
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
    }
    let (ownership, mut events) = Ownership::join(&shared.settings, &shared.status)?;
    *shared.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(ownership.claim());
    shared.views.joined();
    let mut shards =
        Shards { shared: Arc::clone(&shared), claim: ownership.claim(), orders: BTreeMap::new(), turns: BTreeMap::new() };
    let mut tasks = JoinSet::new();
    let fault = loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(OwnershipEvent::Assigned(shard)) => shards.assigned(shard, &mut tasks),
                Some(OwnershipEvent::Revoked(shard)) => shards.tell(shard, Order::Stop),
                // The status that `/health` shows has it already.
                Some(OwnershipEvent::BrokersDown(_) | OwnershipEvent::BrokersUp) => {}
                Some(OwnershipEvent::Fatal(reason)) => {
                    break Some(StageFault::Ended(format!("the membership in the group met a fatal error: {reason}")));
                }
                None => break Some(StageFault::Ended("the membership in the group ended".into())),
            },
            Some(ended) = tasks.join_next() => {
                if let Err(problem) = ended.unwrap_or_else(|error| Err(error.to_string())) {
                    // A broken assumption: what is committed is safe, what is in memory is not.
                    break Some(StageFault::Ended(format!("the work on a shard ended: {problem}")));
                }
            }
            _ = stopping.wait_for(|stop| *stop) => break None,
        }
    };
    if let Some(fault) = fault {
        shared.tokens_finished().await;
        return Err(fault);
    }
    shards.tell_all(Order::Drain);
    let drain = Duration::from_millis(shared.config.catalog.timing.drain_ms) + DRAIN_MARGIN;
    let drained = async {
        loop {
            tokio::select! {
                ended = tasks.join_next() => if ended.is_none() { return },
                // A shard that is lost meanwhile is not ours to finish.
                Some(event) = events.recv() => if let OwnershipEvent::Revoked(shard) = event {
                    shards.tell(shard, Order::Stop);
                },
            }
        }
    };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!("the drain took too long; what is not finished is done by the next owner");
    }
    drop(events);
    let leaving = tokio::task::spawn_blocking(move || ownership.leave());
    let ((), left) = tokio::join!(shared.tokens_finished(), leaving);
    if left.is_err() {
        tracing::warn!("leaving the group failed; the session's timeout does it");
    }
    Ok(())
}

/// Looks at the topics until they are as they must be.
async fn prepare(shared: &Shared) {
    let mut wait = AGAIN_MIN;
    loop {
        let Err(fault) = topics::prepare(&shared.settings, &shared.status).await else { break };
        let text = fault.to_string();
        if shared.views.waits(Some(text.clone())) {
            tracing::warn!("the topics are not ready, looking again by itself: {text}");
        }
        sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MAX);
    }
    shared.views.waits(None);
}

/// The shards that are, or were, this replica's.
struct Shards {
    shared: Arc<Shared>,
    claim: Claim,
    orders: BTreeMap<u32, watch::Sender<Order>>,
    /// One term at a time for each shard, also when it comes back at once.
    turns: BTreeMap<u32, Arc<tokio::sync::Mutex<()>>>,
}

impl Shards {
    fn assigned(&mut self, shard: u32, tasks: &mut JoinSet<Result<(), String>>) {
        tracing::info!(shard, "this replica owns the shard");
        let (order, orders) = watch::channel(Order::Own);
        if let Some(before) = self.orders.insert(shard, order) {
            before.send_replace(Order::Stop);
        }
        let turn = Arc::clone(self.turns.entry(shard).or_default());
        let (shared, claim, runtime) = (Arc::clone(&self.shared), self.claim.clone(), Handle::current());
        // A thread of its own: a batch of 40,000 rows takes milliseconds, which neither calls nor probes should wait for.
        let (over, ended) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                let _turn = turn.lock().await;
                own(&shared, shard, claim, orders).await;
                shared.views.forget(shard);
            });
            if over.send(()).is_err() {
                tracing::debug!(shard, "the stage had ended before the work on its shard");
            }
        };
        let started = std::thread::Builder::new().name(format!("engine-{shard}")).spawn(work);
        tasks.spawn(async move {
            started.map_err(|error| format!("no thread can be started: {error}"))?;
            ended.await.map_err(|_| "its thread panicked".to_owned())
        });
    }

    fn tell(&mut self, shard: u32, order: Order) {
        if let Some(orders) = self.orders.get(&shard) {
            let what = match order {
                Order::Own => "this replica owns the shard again",
                Order::Drain => "the shard goes to another replica",
                Order::Stop => "the shard is no longer this replica's: work on it stops",
            };
            tracing::info!(shard, "{what}");
            orders.send_replace(order);
        }
    }

    fn tell_all(&mut self, order: Order) {
        for orders in self.orders.values() {
            orders.send_if_modified(|now| {
                let own = *now == Order::Own;
                if own {
                    *now = order;
                }
                own
            });
        }
    }
}

/// Begins terms of a shard, one after the other, until it is told otherwise.
async fn own(shared: &Shared, shard: u32, claim: Claim, mut orders: watch::Receiver<Order>) {
    let mut wait = AGAIN_MIN;
    while *orders.borrow() == Order::Own {
        let began = clock::mono();
        let held = match driver::term(shared, shard, claim.clone(), orders.clone()).await {
            driver::TermEnd::Over => return,
            driver::TermEnd::Again => {
                tracing::info!(shard, "the term ended in order, for what was ordered; the next one begins");
                continue;
            }
            driver::TermEnd::Failed(fault) => {
                let problem = fault.to_string();
                tracing::warn!(shard, "the term ended and begins again: {problem}");
                shared.views.set(ShardView { problem: Some(problem), ..ShardView::beginning(shard) });
                false
            }
            driver::TermEnd::Held => true,
        };
        if !held && clock::mono().since_ms(began) > LASTED_MS {
            wait = AGAIN_MIN;
        }
        // Held, it looks again by itself: the remedy may have been applied meanwhile.
        let pause = if held { AGAIN_MAX } else { wait };
        tokio::select! {
            () = sleep(pause) => {}
            _ = orders.wait_for(|order| *order != Order::Own) => return,
        }
        wait = (wait * 2).min(AGAIN_MAX);
    }
}
