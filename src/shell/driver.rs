//! The one loop: the engine's outputs become effects, and what happens becomes the engine's inputs.
//!
//! Nothing here decides. The loop never waits for the network: calls and token looks are tasks, Kafka has threads.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    engine::{
        Engine, Input, Output,
        output::{Call, Commit, CommitId, OrderId, ReadToken},
        reason::HoldReason,
    },
    model::{
        catalog::{Catalog, ExportId},
        control::ControlOutcome,
        position::{NextOffset, PartitionId},
        time::Mono,
    },
};

use super::{
    admin::waits_for_the_dead,
    clock, http,
    kafka::{Claim, CommitAnswer, Committer, KafkaFault, SourceEnds, SourceEvent, SourceReader, Term, TermEvent, begin_term},
    orders::ControlRequest,
    stage::{Order, Shared},
    token_store::Tokens,
    view::{Phase, ShardView},
};

/// How often the view is refreshed.
const SHOW: Duration = Duration::from_millis(100);

/// Why a term is over.
#[derive(Debug)]
pub(super) enum TermEnd {
    /// It was told to end, or it has drained.
    Over,
    /// It has ended in order, for the next one to begin at once.
    Again,
    /// Something of Kafka failed: the state knows all that counts, and the next term begins from it.
    Failed(KafkaFault),
    /// Nothing moves until an operator acts.
    Held,
}

/// Lives one term of a shard.
pub(super) async fn term(shared: &Shared, shard: u32, claim: Claim, mut orders: watch::Receiver<Order>) -> TermEnd {
    let catalog = Arc::new(shared.config.catalog.of_shard(shard, shared.config.state.shards));
    let mut engine = Engine::new(Arc::clone(&catalog), fastrand::u64(..));
    if shard > 0 {
        engine.leave_undecodable();
    }
    let began = Instant::now();
    let term = tokio::select! {
        restored = restore(shared, shard, claim, &mut engine) => match restored {
            Ok(term) => term,
            Err(fault @ KafkaFault::StateUnreadable { .. }) => {
                tracing::error!(shard, "{fault}");
                engine.hold(HoldReason::StateUnreadable);
                return held(shared, shard, &mut engine);
            }
            Err(fault) => return TermEnd::Failed(fault),
        },
        _ = orders.wait_for(|order| *order != Order::Own) => return TermEnd::Over,
    };
    let starts = match engine.begin(clock::now(), &term.beginning) {
        Ok(starts) => starts,
        // Why, the snapshot says too.
        Err(_) => return held(shared, shard, &mut engine),
    };
    tracing::info!(
        shard,
        partitions = starts.len(),
        took_ms = millis(began.elapsed()),
        "the state is read; work on the shard begins"
    );
    if let Some(ms) = engine.snapshot(clock::now()).calls_begin_in_ms {
        tracing::info!(shard, "{}", waits_for_the_dead(ms));
    }
    match Driver::start(shared, shard, catalog, engine, term, starts) {
        Ok(driver) => driver.run(orders).await,
        Err(fault) => TermEnd::Failed(fault),
    }
}

/// Shows why nothing moves.
fn held(shared: &Shared, shard: u32, engine: &mut Engine) -> TermEnd {
    while let Some(output) = engine.poll_output() {
        if let Output::Event(event) = output {
            shared.telemetry.observe(shard, &event, engine.catalog());
        }
    }
    let snapshot = engine.snapshot(clock::now());
    shared.views.set(ShardView { phase: Phase::Held, snapshot, ..ShardView::beginning(shard) });
    TermEnd::Held
}

/// Reads the state into the engine, in the order that makes a term safe.
async fn restore(shared: &Shared, shard: u32, claim: Claim, engine: &mut Engine) -> Result<Term, KafkaFault> {
    shared.views.begins(shard);
    let (_beginning, mut events) = begin_term(&shared.settings, shard, claim, shared.address(), &shared.status)?;
    loop {
        match events.recv().await {
            Some(TermEvent::State(changes)) => changes.into_iter().for_each(|change| engine.restore(change)),
            Some(TermEvent::Begun(term)) => return Ok(*term),
            Some(TermEvent::Failed(fault)) => return Err(fault),
            None => return Err(KafkaFault::Stopped),
        }
    }
}

struct Driver<'a> {
    shared: &'a Shared,
    shard: u32,
    catalog: Arc<Catalog>,
    engine: Engine,
    tokens: Arc<Tokens>,
    reader: SourceReader,
    source: mpsc::Receiver<SourceEvent>,
    committer: Committer,
    commits: mpsc::Receiver<CommitAnswer>,
    ends: SourceEnds,
    /// Calls and token looks under way; each ends as an input.
    effects: JoinSet<Input>,
    /// The offsets of the transaction under way, and those that are confirmed.
    committing: Option<(CommitId, Vec<NextOffset>)>,
    committed: Vec<NextOffset>,
    draining: bool,
    /// Orders of the operator, and those that wait for their answer.
    control: mpsc::Receiver<ControlRequest>,
    ordered: BTreeMap<OrderId, oneshot::Sender<ControlOutcome>>,
    orders: u64,
    /// The term is to end in order, and the next one to begin.
    again: bool,
}

/// What the loop does next.
enum Next {
    Feed(Input),
    Wake,
    End(TermEnd),
    Nothing,
}

impl<'a> Driver<'a> {
    fn start(
        shared: &'a Shared,
        shard: u32,
        catalog: Arc<Catalog>,
        engine: Engine,
        term: Term,
        starts: Vec<NextOffset>,
    ) -> Result<Self, KafkaFault> {
        let decoder = shared
            .decoder(&catalog)
            .map_err(|fault| KafkaFault::Failed { doing: "making the decoder of the source", detail: fault.to_string() })?;
        let partitions: Vec<PartitionId> = starts.iter().map(|next| next.partition).collect();
        let ends = SourceEnds::start(&shared.settings, shard, partitions, &shared.status)?;
        let (reader, source) = SourceReader::start(
            &shared.settings,
            shard,
            &starts,
            &engine.waiting_partitions(),
            decoder,
            shared.registry.clone(),
            Handle::current(),
            &shared.status,
        )?;
        let (committer, commits) = Committer::start(term)?;
        Ok(Self {
            tokens: shared.tokens(shard, &catalog),
            shared,
            shard,
            catalog,
            engine,
            reader,
            source,
            committer,
            commits,
            ends,
            effects: JoinSet::new(),
            committing: None,
            committed: Vec::new(),
            draining: false,
            control: shared.orders.open(shard),
            ordered: BTreeMap::new(),
            orders: 0,
            again: false,
        })
    }

    async fn run(mut self, mut orders: watch::Receiver<Order>) -> TermEnd {
        let mut show = interval(SHOW);
        show.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            match self.drain_outputs() {
                Ok(false) => {}
                Ok(true) if self.again => break TermEnd::Again,
                Ok(true) => break TermEnd::Over,
                Err(fault) => break TermEnd::Failed(fault),
            }
            if self.again && !self.draining {
                let drain = self.drains();
                self.engine.handle_input(clock::now(), drain);
                continue;
            }
            let next = tokio::select! {
                biased;
                changed = orders.changed() => self.ordered(changed.map_or(Order::Stop, |()| *orders.borrow_and_update())),
                Some(ended) = self.effects.join_next() => match ended {
                    Ok(input) => Next::Feed(input),
                    Err(error) => Next::End(TermEnd::Failed(lost("a task for a call ended", &error.to_string()))),
                },
                answer = self.commits.recv() => self.on_commit(answer),
                Some(request) = self.control.recv() => self.on_order(request),
                _ = show.tick() => {
                    self.show();
                    Next::Nothing
                }
                event = self.source.recv() => on_source(event),
                () = until(self.engine.poll_timeout()) => Next::Wake,
            };
            match next {
                Next::Feed(input) => self.engine.handle_input(clock::now(), input),
                Next::Wake => self.engine.handle_timeout(clock::now()),
                Next::End(end) => break end,
                Next::Nothing => {}
            }
        };
        self.shared.orders.close(self.shard);
        let drained = matches!(end, TermEnd::Over | TermEnd::Again) && self.draining;
        self.finish(drained).await;
        end
    }

    fn ordered(&mut self, order: Order) -> Next {
        match order {
            Order::Own => Next::Nothing,
            Order::Stop => Next::End(TermEnd::Over),
            Order::Drain => {
                self.again = false;
                Next::Feed(self.drains())
            }
        }
    }

    fn drains(&mut self) -> Input {
        self.draining = true;
        let deadline = clock::mono().plus_ms(self.catalog.timing.drain_ms);
        tracing::info!(shard = self.shard, drain_ms = self.catalog.timing.drain_ms, "finishing what can be finished");
        Input::Drain { deadline }
    }

    /// An order that names no export of this shard is dropped, which whoever waits for its answer hears.
    fn on_order(&mut self, request: ControlRequest) -> Next {
        let place = self.catalog.exports.iter().position(|export| export.name == request.export);
        let Some(export) = place.map(ExportId::at) else { return Next::Nothing };
        self.orders += 1;
        let order = OrderId(self.orders);
        self.ordered.insert(order, request.answer);
        Next::Feed(Input::Control { order, export, action: request.action })
    }

    fn controlled(&mut self, order: OrderId, outcome: ControlOutcome) {
        self.again |= outcome == ControlOutcome::BeginsAnew;
        if let Some(answer) = self.ordered.remove(&order)
            && answer.send(outcome).is_err()
        {
            tracing::debug!(shard = self.shard, "whoever ordered something did not wait for its answer");
        }
    }

    fn on_commit(&mut self, answer: Option<CommitAnswer>) -> Next {
        match answer {
            Some(CommitAnswer::Committed { commit, began }) => {
                if let Some((_, offsets)) = self.committing.take_if(|(id, _)| *id == commit) {
                    self.committed = offsets;
                }
                Next::Feed(Input::Committed { commit, began })
            }
            Some(CommitAnswer::Failed(fault)) => Next::End(TermEnd::Failed(fault)),
            None => Next::End(TermEnd::Failed(lost("the thread of the transactions ended", "without a word"))),
        }
    }

    /// Performs what the engine asks for. True when the drain is over.
    fn drain_outputs(&mut self) -> Result<bool, KafkaFault> {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Call(call) => self.call(call),
                Output::ReadToken(read) => self.read_token(read),
                Output::Commit(commit) => self.commit(commit)?,
                Output::Pause { partitions, reason: _ } => self.reader.pause(&partitions),
                Output::Resume { partitions } => self.reader.resume(&partitions),
                Output::Event(event) => self.shared.telemetry.observe(self.shard, &event, self.engine.catalog()),
                Output::Controlled { order, outcome } => self.controlled(order, outcome),
                Output::Drained => return Ok(true),
            }
        }
        Ok(false)
    }

    fn call(&mut self, call: Call) {
        let client = self.shared.client.clone();
        let api = self.shared.config.endpoints.api.clone();
        let token = self.tokens.access(call.connection);
        self.effects.spawn(async move {
            let (outcome, vendor_time) = http::send(&client, &api, &call, token.as_ref()).await;
            Input::CallEnded { call: call.call, outcome, vendor_time }
        });
    }

    fn read_token(&mut self, read: ReadToken) {
        let tokens = Arc::clone(&self.tokens);
        self.effects.spawn(async move {
            let token = tokens.read(read).await;
            Input::TokenRead { refresh: read.refresh, connection: read.connection, token }
        });
    }

    fn commit(&mut self, commit: Commit) -> Result<(), KafkaFault> {
        self.committing = Some((commit.commit, commit.offsets.clone()));
        self.committer.commit(commit).map_err(|_| lost("the thread of the transactions ended", "it takes no more"))
    }

    fn show(&self) {
        self.shared.views.set(ShardView {
            shard: self.shard,
            phase: if self.draining { Phase::Draining } else { Phase::Running },
            problem: None,
            snapshot: self.engine.snapshot(clock::now()),
            committed: self.committed.clone(),
            ends: self.ends.known(),
        });
    }

    /// Ends the threads. After a drain it waits for them, so that what the group hears last is that all is done.
    async fn finish(self, drained: bool) {
        self.show();
        let (reader, committer) = (self.reader, self.committer);
        if drained {
            let ended = tokio::task::spawn_blocking(move || {
                reader.stop();
                committer.finish();
            });
            if ended.await.is_err() {
                tracing::warn!(shard = self.shard, "a thread of Kafka's did not end in order");
            }
            tracing::info!(shard = self.shard, "drained");
        }
    }
}

fn on_source(event: Option<SourceEvent>) -> Next {
    match event {
        Some(SourceEvent::Records(records)) => Next::Feed(Input::Records(records)),
        Some(SourceEvent::At(positions)) => Next::Feed(Input::ReaderAt(positions)),
        Some(SourceEvent::PartitionsAdded { added, ends }) => Next::Feed(Input::PartitionsAdded { added, ends }),
        Some(SourceEvent::Failed(fault)) => Next::End(TermEnd::Failed(fault)),
        None => Next::End(TermEnd::Failed(lost("the thread of the source reader ended", "without a word"))),
    }
}

fn lost(doing: &'static str, detail: &str) -> KafkaFault {
    KafkaFault::Failed { doing, detail: detail.to_owned() }
}

async fn until(wake: Option<Mono>) {
    match wake {
        // Suspension moves the engine's clock but not the runtime's: no single wait is long.
        Some(at) => sleep(Duration::from_millis(at.since_ms(clock::mono()).min(1_000))).await,
        None => std::future::pending().await,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
