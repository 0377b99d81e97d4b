//! The run: mock cluster, simulated account and the real stage, until everything is committed.

use std::{collections::BTreeMap, io, net::Ipv4Addr, sync::Arc, time::Duration};

use rdkafka::{error::KafkaError, mocking::MockCluster};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    config::{Config, ConfigErrors},
    model::{catalog::ListRef, position::NextOffset},
    shell::{
        clock,
        simulator_host::{SharedVendor, SimulatorHost, wall},
        stage::{Stage, StageFault, StageOptions},
        view::ShardView,
    },
    simulator::constant_contact::Vendor,
    telemetry::Telemetry,
};

use super::{
    feed::{Feed, sum},
    fold::{Comparison, Fold},
    person::People,
    render::{Encoding, Renderer},
    report::{Applied, CEILING_CONTACTS_PER_HOUR, Figures, Outcome, usage},
    setup::{self, Folder, Places},
    workload::{Plan, SegmentNumber, Segments, Workload},
};

/// Partitions of the source.
const PARTITIONS: usize = 4;
/// How often the stage is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Without any progress for so long the run is given up: longer than anything that the stage may wait for here.
const STALLED_MS: u64 = 180_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoOptions {
    /// Distinct profiles.
    pub profiles: u32,
    /// Decides the workload and the account.
    pub seed: u64,
    /// Without limits and delays.
    pub fast: bool,
}

impl DemoOptions {
    /// What will be produced.
    #[must_use]
    pub fn plan(&self) -> Plan {
        // A scan of their list costs a call for each 500: so few that the documented limits allow it in seconds.
        let leavers = if self.fast { self.profiles / 100 } else { 5_000.min(self.profiles / 4) };
        Plan { profiles: self.profiles, leavers, seed: self.seed, segments: setup::segments() }
    }
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// Everything is there, the stage has started.
    Started {
        /// The folder with the configuration.
        folder: &'a Folder,
        /// The stage's admin port.
        admin: std::net::SocketAddr,
    },
    /// How far it has come.
    Progress(Progress),
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records handed to Kafka.
    pub produced: u64,
    /// Offsets committed, summed over partitions.
    pub committed: u64,
    /// Where the stage's readers stand, summed over partitions.
    pub read: u64,
    /// Rows of completed activities.
    pub applied: u64,
    /// Changes that wait or are in flight.
    pub open: u64,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DemoFault {
    /// A folder, a file or a socket.
    #[error("{doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The mock cluster, or the producer into it.
    #[error("the embedded Kafka: {0}")]
    Kafka(String),
    /// The configuration that the demo wrote is not taken: a fault of the demo.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The stage did not start, or ended by itself.
    #[error("the stage: {0}")]
    Stage(#[from] StageFault),
    /// Told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl From<KafkaError> for DemoFault {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error.to_string())
    }
}

fn io_fault(doing: &'static str) -> impl FnOnce(io::Error) -> DemoFault {
    move |error| DemoFault::Io { doing, error }
}

/// Runs the demo on a runtime with several threads.
///
/// # Errors
/// It could not be made, or was interrupted. What went wrong within it is in the outcome.
pub async fn run(options: DemoOptions, tell: &mut dyn FnMut(News<'_>)) -> Result<Outcome, DemoFault> {
    let began = clock::mono();
    let vendor = Vendor::new(setup::vendor(options.seed, options.fast), wall());
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let host = SimulatorHost::start(listen, vendor).await.map_err(io_fault("the simulated account"))?;
    let cluster = MockCluster::new(1)?;
    let brokers = cluster.bootstrap_servers();
    let token = format!("http://{}/oauth2/token", host.address());
    let places = Places { brokers: &brokers, api: &host.api(), token: &token };
    let folder = setup::write(places, options.fast).map_err(io_fault("the demo's folder"))?;
    let config = Arc::new(setup::load(&folder)?);
    // The mock cluster does not know how to make topics when it is asked over the wire.
    let shards = i32::try_from(config.state.shards).unwrap_or(1);
    let partitions = i32::try_from(PARTITIONS).unwrap_or(1);
    for (topic, count) in [(&config.source.topic, partitions), (&config.state.topic, shards), (&config.dead_letters.topic, 1)] {
        cluster.create_topic(topic, count, 1)?;
    }

    let telemetry = Arc::new(Telemetry::new());
    let mut stage = Stage::start(Arc::clone(&config), Arc::clone(&telemetry), StageOptions::default()).await?;
    tell(News::Started { folder: &folder, admin: stage.admin_address() });
    let feed = feed(options, &config, &brokers)?;
    let mut flow = Flow { feed, telemetry: Arc::clone(&telemetry), began_at: None, ended_at: None, given_up: None };
    let flowed = flow.until_done(&mut stage, tell).await;
    if let Err(fault @ DemoFault::Stage(_)) = flowed {
        // It has ended by itself: there is nothing left to stop.
        return Err(fault);
    }
    let view = stage.view();
    // An interrupted run leaves the group in order too; and the stage's memory goes before the lists are compared.
    stage.stop().await?;
    flowed?;

    let feed = &flow.feed;
    let (events, undecodable, offsets_produced) = (feed.records(), feed.undecodable(), feed.offsets_produced());
    let flow_ms = flow.began_at.zip(flow.ended_at).map_or(0, |(from, to)| to.since_ms(from));
    let given_up = flow.given_up.take();
    let lists = compare(&flow.feed.into_fold(), options.seed, &config, &host.vendor());
    let report = host.vendor().lock().report();
    let applied = Applied {
        adds: telemetry.applied_total("add"),
        updates: telemetry.applied_total("update"),
        removals: telemetry.applied_total("remove"),
    };
    let contacts_applied = applied.adds + applied.updates + applied.removals;
    host.stop().await.map_err(io_fault("the simulated account"))?;
    let (cpu_seconds, peak_rss_bytes) = usage();
    let figures = Figures {
        profiles: options.profiles,
        events,
        segments: config.catalog.exports.iter().map(|export| export.segments.len()).sum(),
        exports: config.catalog.exports.len(),
        seed: options.seed,
        fast: options.fast,
        seconds: Duration::from_millis(clock::mono().since_ms(began)).as_secs_f64(),
        cpu_seconds,
        contacts_applied,
        applied,
        cancelled_before_sending: telemetry.cancelled_total(),
        contacts_per_hour: contacts_applied.saturating_mul(3_600_000) / flow_ms.max(1),
        ceiling_contacts_per_hour: CEILING_CONTACTS_PER_HOUR,
        api_calls: report.requests,
        api_calls_by_kind: report.requests_by_kind,
        max_calls_in_a_second: report.max_in_a_second,
        activities: report.activities_by_state.values().sum(),
        lists_converged: lists.iter().all(|(_, list)| list.equal()),
        offsets_produced,
        offsets_committed: sum(committed(&view).iter().map(|next| next.offset)),
        dead_letters: telemetry.dead_letters_total(),
        quota_violations: report.violations_count,
        peak_rss_bytes,
    };
    Ok(Outcome { figures, lists, undecodable, given_up, folder })
}

/// The feed of what will be produced, with a fold for the lists that the configuration names.
fn feed(options: DemoOptions, config: &Config, brokers: &str) -> Result<Feed, DemoFault> {
    let plan = options.plan();
    let lists: Vec<Vec<SegmentNumber>> =
        config.catalog.exports.iter().map(|export| numbers(&plan.segments, &export.segments)).collect();
    let fold = Fold::new(plan.profiles, &lists);
    let renderer = Renderer::new(plan.seed, plan.segments.names.clone(), Encoding::Avro(None), wall());
    Ok(Feed::new(brokers, &config.source.topic, PARTITIONS, Workload::new(plan), renderer, fold)?)
}

fn numbers(segments: &Segments, names: &[crate::model::Text]) -> Vec<SegmentNumber> {
    (0..).zip(&segments.names).filter(|(_, name)| names.iter().any(|of| of == name.as_str())).map(|(number, _)| number).collect()
}

/// Each list against the fold.
fn compare(fold: &Fold, seed: u64, config: &Config, vendor: &SharedVendor) -> Vec<(String, Comparison)> {
    let (vendor, people) = (vendor.lock(), People::new(seed));
    let ids: BTreeMap<_, _> = vendor.lists().into_iter().map(|(id, name)| (name, id)).collect();
    let list = |(number, export): (usize, &crate::model::catalog::Export)| {
        let (name, id) = match &export.list {
            ListRef::Named { name, .. } => (name.to_string(), ids.get(name).copied()),
            ListRef::Id(id) => (id.to_string(), Some(*id)),
        };
        (name, fold.compare(number, people, &vendor, id))
    };
    config.catalog.exports.iter().enumerate().map(list).collect()
}

/// Events on their way.
struct Flow {
    feed: Feed,
    telemetry: Arc<Telemetry>,
    /// When the first record was produced.
    began_at: Option<crate::model::time::Mono>,
    /// When the last commit was seen.
    ended_at: Option<crate::model::time::Mono>,
    given_up: Option<String>,
}

impl Flow {
    /// Feeds and looks until everything is committed, or nothing moves any more.
    async fn until_done(&mut self, stage: &mut Stage, tell: &mut dyn FnMut(News<'_>)) -> Result<(), DemoFault> {
        let (mut looks, mut moved_at, mut last) = (ticks(LOOK), clock::mono(), Progress::default());
        let mut interrupted = std::pin::pin!(interrupted()?);
        loop {
            tokio::select! {
                fault = stage.ended() => return Err(fault.into()),
                () = &mut interrupted => return Err(DemoFault::Interrupted),
                _ = looks.tick() => {}
            }
            let (view, now) = (stage.view(), clock::mono());
            if view.is_empty() && self.began_at.is_none() {
                // Not owned yet: the pace counts from where there is somebody to keep it.
                if now.since_ms(moved_at) > STALLED_MS {
                    self.given_up = Some("the stage was given no shard".to_owned());
                    return Ok(());
                }
                continue;
            }
            self.began_at.get_or_insert(now);
            let (read, committed) = (readers(&view), committed(&view));
            self.feed.turn(&read, &committed)?;
            if let Some(failure) = self.feed.failure() {
                return Err(DemoFault::Kafka(failure));
            }
            let progress = self.progress(&view, &read, &committed);
            tell(News::Progress(progress));
            if self.feed.is_done() && progress.committed >= self.feed.offsets_produced() && progress.open == 0 {
                self.ended_at = Some(now);
                return Ok(());
            }
            if progress != last {
                (last, moved_at) = (progress, now);
            } else if now.since_ms(moved_at) > STALLED_MS {
                self.ended_at = Some(now);
                self.given_up = Some(stalled(&view));
                return Ok(());
            }
        }
    }

    fn progress(&self, view: &[ShardView], read: &[NextOffset], committed: &[NextOffset]) -> Progress {
        let exports = view.iter().flat_map(|shard| &shard.snapshot.exports);
        let offsets = |of: &[NextOffset]| sum(of.iter().map(|next| next.offset));
        Progress {
            produced: self.feed.records(),
            committed: offsets(committed),
            read: offsets(read),
            applied: ["add", "update", "remove"].into_iter().map(|operation| self.telemetry.applied_total(operation)).sum(),
            open: exports.map(|export| export.waiting + export.in_flight).sum(),
        }
    }
}

fn readers(view: &[ShardView]) -> Vec<NextOffset> {
    // The slowest reader counts, where several shards read the source.
    let all = view.iter().map(|shard| &shard.snapshot.reader[..]);
    slowest(all)
}

fn committed(view: &[ShardView]) -> Vec<NextOffset> {
    slowest(view.iter().map(|shard| &shard.committed[..]))
}

fn slowest<'a>(shards: impl Iterator<Item = &'a [NextOffset]>) -> Vec<NextOffset> {
    let mut least: BTreeMap<_, i64> = BTreeMap::new();
    for next in shards.flatten() {
        least.entry(next.partition).and_modify(|offset| *offset = next.offset.min(*offset)).or_insert(next.offset);
    }
    least.into_iter().map(|(partition, offset)| NextOffset { partition, offset }).collect()
}

/// Why nothing moves, in the stage's own words.
fn stalled(view: &[ShardView]) -> String {
    let mut reasons: Vec<String> = view.iter().filter_map(|shard| shard.problem.clone()).collect();
    for snapshot in view.iter().map(|shard| &shard.snapshot) {
        reasons.extend(snapshot.held.map(|reason| format!("the shard is held: {}", reason.explain())));
        let holders = (snapshot.applications.iter().map(|of| (&of.name, of.held)))
            .chain(snapshot.connections.iter().map(|of| (&of.name, of.held)))
            .chain(snapshot.exports.iter().map(|of| (&of.name, of.held)));
        reasons.extend(holders.filter_map(|(name, held)| held.map(|reason| format!("{name} is held: {}", reason.explain()))));
    }
    let seconds = STALLED_MS / 1_000;
    if reasons.is_empty() { format!("nothing moved for {seconds} s") } else { reasons.join("; ") }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Resolves on SIGINT or SIGTERM.
fn interrupted() -> Result<impl Future<Output = ()>, DemoFault> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(io_fault("signals"));
    let (mut terminated, mut interrupted) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}
