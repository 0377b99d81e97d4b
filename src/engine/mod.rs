//! DECISIONS: what to send, when, and what to make of the answers. Touches nothing: no clock, no socket, no thread,
//! no randomness but a seed, no log line.
//!
//! The contract:
//!
//! 1. One mutation, then drain: after `handle_input` or `handle_timeout`, call `poll_output` until it returns `None`
//!    before the next mutation.
//! 2. Handlers cannot fail. A broken assumption panics: restarting from the last commit is always safe.
//! 3. Every effect has an id and every answer names it; an unknown id is an [`Event`], never a panic.
//!
//! May know: `model`, `governor`, `serde` for the snapshot.

pub mod event;
pub mod input;
pub mod output;
pub mod promise;
pub mod reason;
pub mod snapshot;

pub mod limits;
pub mod planted;

mod ack;
mod activity;
mod activity_time;
mod adopted;
mod ahead;
mod answers;
mod backfill;
mod begin;
mod brake;
mod calls;
mod ceiling;
mod coalescer;
mod contract;
mod control;
mod decision;
mod erasure;
mod existing;
mod few;
mod flapping;
mod full_queue;
mod ghosts;
mod hourly;
mod journal;
mod learned;
mod membership;
mod moving;
mod order;
mod outcome;
mod pacer;
mod parking;
mod planner;
mod polls;
mod price;
mod quota;
mod refusals;
mod removal;
mod removed;
mod rounds;
mod route;
mod router;
mod search;
mod staging;
mod suppression;
mod verify;
mod view;

#[cfg(test)]
mod scenarios;

pub use begin::{Beginning, PartitionBeginning};
pub use brake::Braked;
pub use contract::ContractReached;
pub use decision::{Decision, Standing};
pub use event::Event;
pub use input::Input;
pub use output::Output;
pub use promise::Promise;
pub use search::RefusedReason;
pub use snapshot::Snapshot;
pub use staging::staging_name;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::{
    ListId,
    batch::CutReason,
    catalog::{ApplicationId, Catalog, ConnectionId, ExportId, OnErasure},
    control::ControlOutcome,
    position::{NextOffset, PartitionId},
    state::ControlRecord,
    time::{Mono, Now, UnixMillis},
};

use ack::Acks;
use activity::Batch;
use calls::CallInFlight;
use coalescer::{Queue, Removals};
use event::RecordCounts;
use journal::Journal;
use membership::{ContactSlot, Membership};
use output::{CallId, RefreshId};
use pacer::Pacer;
use parking::Parking;
use quota::Quota;
use reason::{HoldReason, Holder, PauseReason};
use removal::Finding;
use router::Router;

/// One shard's decisions.
#[derive(Debug)]
pub struct Engine {
    catalog: Arc<Catalog>,
    rng: fastrand::Rng,
    outputs: VecDeque<Output>,
    router: Option<Router>,
    acks: Acks,
    order: order::Order,
    applications: Vec<ApplicationState>,
    connections: Vec<ConnectionState>,
    exports: Vec<ExportState>,
    /// Open batches by number: the order of their cutting.
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    ghosts: ghosts::Ghosts,
    searches: search::Searches,
    /// Distinguishes the names of this term's batches from every other's.
    term_mark: u64,
    calls: BTreeMap<CallId, CallInFlight>,
    next_call: u64,
    token_reads: BTreeMap<RefreshId, calls::TokenReadInFlight>,
    journal: Journal,
    parking: Parking,
    /// Where the source's partitions ended when the term began, until all of that was read.
    ends: BTreeMap<PartitionId, i64>,
    restored: begin::Restored,
    routing: backfill::Routing,
    /// No request may leave after this instant.
    lease_until: Mono,
    /// Requests of earlier terms may still be under way before this instant.
    first_call_at: Mono,
    sequence: u64,
    /// Erasures that were read in this term.
    erasures: u64,
    counts: RecordCounts,
    paused: Option<PauseReason>,
    held: Option<HoldReason>,
    holds: BTreeMap<Holder, HoldReason>,
    /// Those whose holds are tried again by themselves, though only a person ends them, since their last call that went well.
    wait_for_a_person: BTreeSet<Holder>,
    drain: Option<Drain>,
    wake: Option<Mono>,
    /// Records that cannot be decoded are another shard's to write letters for.
    leaves_undecodable: bool,
}

/// A stop under way.
#[derive(Debug, Clone, Copy)]
struct Drain {
    deadline: Mono,
    done: bool,
}

/// One API key.
#[derive(Debug)]
struct ApplicationState {
    pacer: Pacer,
    quota: Quota,
    /// What a call of it costs.
    price: price::Price,
    /// Calls beyond those that flushes were planned with.
    overhead: price::Overhead,
    /// What the vendor's clock showed when this term first read it.
    hour_clock: Option<(UnixMillis, Mono)>,
    /// So many changes come just now that nobody knows yet which groups are large.
    pours: bool,
    /// Batches that are cut and not sent yet.
    unsent: u32,
    /// Those among them that may be sent as far as holds go.
    ready: u32,
    /// Calls that what was begun still needs to come to its end.
    owed: u32,
    /// Calls of removals that were decided to go by staging lists and are in no round yet.
    promised: u32,
    /// Until when, and why, it makes no calls.
    held: Option<(HoldReason, Mono)>,
}

/// One account.
#[derive(Debug)]
struct ConnectionState {
    /// Addresses (hashed) in activities that may still run, and the changes of other exports that wait for them.
    fences: HashMap<u64, Vec<(ExportId, ContactSlot)>, FenceHasher>,
    /// Some export that it serves is routed: it needs a token.
    used: bool,
    token: calls::TokenState,
    /// When the token was read that is in use: a rejection of an older one says nothing of it.
    token_at: Mono,
    /// Tokens rejected in a row.
    rejections: u32,
    /// Until when, and why, it makes no calls.
    held: Option<(HoldReason, Mono)>,
    /// Failures in a row.
    failures: u32,
    full_queue: full_queue::FullQueue,
    /// Batches that are cut, of exports that are not held, and that the vendor has not taken yet.
    begins: u32,
    open_batches: usize,
    polling: calls::Polling,
    suppression: suppression::Suppression,
    /// Addresses that were sent more than once within a day.
    flapping: flapping::Flapping,
    /// What was found out of it.
    learned: learned::Learned,
    staging: staging::Staging,
    contract: contract::Contract,
    /// When its activities are looked through for batches that were given up.
    ghosts_at: Mono,
    /// Rows in them.
    open_rows: u64,
    /// What its activities take, learned.
    activity_time: activity_time::ActivityTime,
    /// Nothing more is begun before what runs was read: one activity waits for another.
    gated: Option<activity_time::Gate>,
    /// How often a round of removals is to be expected, at the price of a call.
    rounds_per_second: f64,
    /// How much later than others of its key it may be read, because less of it changes; 1 for all alike.
    read_later: f64,
}

type FenceHasher = std::hash::BuildHasherDefault<xxhash_rust::xxh3::Xxh3Default>;

/// One export.
#[derive(Debug)]
struct ExportState {
    connection: ConnectionId,
    application: ApplicationId,
    /// Consent is recorded and it was started: its segments are routed.
    routed: bool,
    /// The state knows it, and the configuration does not.
    removed: bool,
    /// What the operator ordered.
    control: ControlRecord,
    /// It is not started, and who is on its list from before leaves it when erased.
    reaches_erased: bool,
    /// Removals that wait for the operator.
    held_back: u64,
    /// Adds that wait for their account to have room.
    without_room: u64,
    brake: brake::Brake,
    /// Ours leave its old list, because the configuration names another.
    moving: Option<moving::Move>,
    members: Membership,
    /// Who was on the list before.
    existing: existing::Existing,
    imports: Queue,
    removals: Removals,
    suppressed: suppression::SuppressedAdds,
    /// Rows that are kept because a search for refused ones was spent on them.
    search_spent: usize,
    flapping: flapping::FlappingChanges,
    finding: Finding,
    /// Why its removals were begun.
    removes_because: CutReason,
    rounds: rounds::Rounds,
    /// Its removals by staging lists usually go ahead of the reading of their imports.
    goes_ahead: bool,
    /// A contact that is to be deleted is being looked up.
    erased_under_way: bool,
    list: Option<ListId>,
    list_call: bool,
    /// Its name was looked for and not found: the next call creates it.
    list_absent: bool,
    /// Its creation found the name taken, although the name was not found.
    list_conflict: bool,
    /// Members of the list as the vendor last showed them, ours or not.
    members_shown: u64,
    held: Option<(HoldReason, Mono)>,
    /// Rows that were sent in the last 60 minutes.
    hourly: hourly::HourlyRows,
    rows_open: u64,
    /// Calls of its removals that were decided to go by staging lists and are in no round yet.
    promised: u32,
    /// How often changes begin to wait: adds and updates, and removals.
    arrivals: [price::ArrivalRate; 2],
    /// How long between two flushes of each, in seconds, at the price of a call.
    usual_s: [f64; 2],
    cancelled: u32,
    record_due: bool,
    /// Members whose empty record is forgotten once the watermark has passed it.
    leaving: BTreeSet<(i32, i64, u32)>,
}

impl Engine {
    /// An engine without state. Restore first, then begin.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let term_mark = rng.u64(..);
        let mut connections: Vec<_> = catalog.connections.iter().map(|_| ConnectionState::new()).collect();
        let exports: Vec<ExportState> =
            catalog.exports.iter().map(|export| ExportState::new(&catalog, export, rng.u64(..))).collect();
        for export in exports.iter().filter(|export| export.routed) {
            connections[usize::from(export.connection.0)].used = true;
        }
        Self {
            rng,
            outputs: VecDeque::new(),
            router: None,
            acks: Acks::default(),
            order: order::Order::default(),
            applications: Vec::new(),
            connections,
            exports,
            batches: BTreeMap::new(),
            next_batch: 0,
            ghosts: ghosts::Ghosts::new(),
            searches: search::Searches::default(),
            term_mark,
            calls: BTreeMap::new(),
            next_call: 0,
            token_reads: BTreeMap::new(),
            journal: Journal::default(),
            parking: Parking::default(),
            ends: BTreeMap::new(),
            restored: begin::Restored::default(),
            routing: backfill::Routing::default(),
            lease_until: Mono(0),
            first_call_at: Mono(0),
            sequence: 0,
            erasures: 0,
            counts: RecordCounts::default(),
            paused: None,
            held: None,
            holds: BTreeMap::new(),
            wait_for_a_person: BTreeSet::new(),
            drain: None,
            wake: None,
            leaves_undecodable: false,
            catalog,
        }
    }

    /// Leaves records that cannot be decoded to another shard: all shards read the whole source, and one letter is enough.
    pub fn leave_undecodable(&mut self) {
        self.leaves_undecodable = true;
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        if self.held.is_some() {
            match input {
                Input::Drain { .. } => self.outputs.push_back(Output::Drained),
                Input::Control { order, .. } => {
                    self.outputs.push_back(Output::Controlled { order, outcome: ControlOutcome::Stopping });
                }
                Input::Records(_)
                | Input::ReaderAt(_)
                | Input::PartitionsAdded { .. }
                | Input::Committed { .. }
                | Input::CallEnded { .. }
                | Input::TokenRead { .. } => {}
            }
            return;
        }
        match input {
            Input::Records(records) => self.route(now, records),
            Input::ReaderAt(positions) => {
                for next in positions {
                    self.acks.reader_at(next);
                    self.read_up_to(next);
                }
            }
            Input::PartitionsAdded { added, ends } => self.grow(added, ends),
            Input::Committed { commit, began } => self.on_committed(now, commit, began),
            Input::CallEnded { call, outcome, vendor_time } => self.on_call_ended(now, call, outcome, vendor_time),
            Input::TokenRead { refresh, connection, token } => self.on_token_read(now, refresh, connection, token),
            Input::Control { order, export, action } => self.control(now, order, export, action),
            Input::Drain { deadline } => {
                self.drain.get_or_insert(Drain { deadline, done: false });
                self.poll_before_stop(now);
            }
        }
        self.settle(now);
    }

    /// Time passed: call it at or after `poll_timeout`.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.held.is_none() {
            self.settle(now);
        }
    }

    /// The next effect or fact; `None` when there is none until the next mutation.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle_timeout` at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.wake
    }

    /// Restores order after each mutation, in one place.
    fn settle(&mut self, now: Now) {
        self.wake = None;
        self.expire(now);
        self.finish_batches(now);
        self.finish_moves(now);
        self.adopt_existing(now);
        self.pass_flapping(now);
        self.plan(now);
        self.make_calls(now);
        self.park(now);
        self.commit_if_due(now);
        self.read_waiting();
        self.tell_suppressed();
        self.tell_flapping();
        self.tell(now);
        self.press_back();
    }

    /// Looks again at `at`, at the latest.
    fn wake_at(&mut self, at: Mono) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn export(&self, id: ExportId) -> &ExportState {
        &self.exports[usize::from(id.0)]
    }

    fn export_mut(&mut self, id: ExportId) -> &mut ExportState {
        &mut self.exports[usize::from(id.0)]
    }

    fn connection_mut(&mut self, id: ConnectionId) -> &mut ConnectionState {
        &mut self.connections[usize::from(id.0)]
    }

    fn application_mut(&mut self, id: ApplicationId) -> &mut ApplicationState {
        &mut self.applications[usize::from(id.0)]
    }

    fn export_ids(&self) -> impl Iterator<Item = ExportId> + use<> {
        (0..self.exports.len()).map(ExportId::at)
    }

    fn connection_ids(&self) -> impl Iterator<Item = ConnectionId> + use<> {
        (0..self.connections.len()).map(ConnectionId::at)
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// The vendor's time as well as we know it, for the age of what it did.
    fn vendor_now(&self, application: ApplicationId, now: Now) -> UnixMillis {
        // A shard that is held as a whole has read no ledger, and can be looked at all the same.
        let state = self.applications.get(usize::from(application.0));
        state.and_then(|state| state.quota.vendor_time(now.mono)).map_or(now.wall, |(earliest, _)| earliest)
    }

    /// The clock by which an hour's rows are counted: as the vendor's was when this term first read it, and on from there with
    /// ours. That one is read to a second, and anew all the time.
    fn hour_now(&self, application: ApplicationId, now: Now) -> UnixMillis {
        let clock = self.applications.get(usize::from(application.0)).and_then(|state| state.hour_clock);
        clock.map_or_else(
            || self.vendor_now(application, now),
            |(at, read)| at.plus_ms(i64::try_from(now.mono.since_ms(read)).unwrap_or(i64::MAX)),
        )
    }

    /// The watermarks: everything below them is settled.
    #[must_use]
    pub fn watermarks(&self) -> Vec<NextOffset> {
        self.acks.watermarks()
    }
}

impl ApplicationState {
    /// Whether so many calls may go for something that waiting does not make cheaper: half of an even share is kept for
    /// what it does.
    fn affords(&self, now: Now, calls: f64) -> bool {
        let (Some(left), Some(limit)) = (self.quota.left(), self.quota.limit()) else { return true };
        let kept = f64::from(limit) / 2.0 * self.quota.day_left_ms(now.mono) as f64 / 86_400_000.0;
        f64::from(left) - calls >= kept
    }
}

impl ConnectionState {
    /// Why, and until when, nothing is begun in it.
    fn hold(&self, now: Mono) -> Option<(HoldReason, Mono)> {
        self.held.or_else(|| self.full_queue.hold(now, self.begins))
    }

    fn new() -> Self {
        Self {
            fences: HashMap::default(),
            used: false,
            token: calls::TokenState::Unread,
            token_at: Mono(0),
            rejections: 0,
            held: None,
            failures: 0,
            full_queue: full_queue::FullQueue::default(),
            begins: 0,
            open_batches: 0,
            polling: calls::Polling::Idle,
            suppression: suppression::Suppression::default(),
            flapping: flapping::Flapping::default(),
            learned: learned::Learned::default(),
            staging: staging::Staging::default(),
            contract: contract::Contract::default(),
            ghosts_at: Mono(0),
            open_rows: 0,
            activity_time: activity_time::ActivityTime::default(),
            gated: None,
            rounds_per_second: 0.0,
            read_later: 1.0,
        }
    }
}

impl ExportState {
    fn new(catalog: &Catalog, export: &crate::model::catalog::Export, seed: u64) -> Self {
        let connection = catalog.connection(export.connection);
        let mut members = Membership::new(seed, &export.segments);
        if connection.on_erasure == OnErasure::DeleteContact {
            members.keep_all_left();
        }
        Self {
            connection: export.connection,
            application: connection.application,
            routed: export.starts_at_once && connection.consent.is_some(),
            removed: false,
            control: ControlRecord::default(),
            reaches_erased: false,
            held_back: 0,
            without_room: 0,
            brake: brake::Brake::default(),
            moving: None,
            members,
            existing: existing::Existing::default(),
            imports: Queue::default(),
            removals: Removals::default(),
            suppressed: suppression::SuppressedAdds::default(),
            search_spent: 0,
            flapping: flapping::FlappingChanges::default(),
            finding: Finding::Idle,
            removes_because: CutReason::Price,
            rounds: rounds::Rounds::default(),
            goes_ahead: false,
            erased_under_way: false,
            list: match &export.list {
                crate::model::catalog::ListRef::Id(id) => Some(*id),
                crate::model::catalog::ListRef::Named { .. } => None,
            },
            list_call: false,
            list_absent: false,
            list_conflict: false,
            members_shown: 0,
            held: None,
            hourly: hourly::HourlyRows::default(),
            rows_open: 0,
            promised: 0,
            arrivals: <[price::ArrivalRate; 2]>::default(),
            usual_s: [f64::INFINITY; 2],
            cancelled: 0,
            record_due: false,
            leaving: BTreeSet::new(),
        }
    }
}
