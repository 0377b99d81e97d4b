//! One round: a topic, a group and an account of its own, so that its seed alone replays it; faults; then none, until
//! all has drained; then lists and fold are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use listkeeper::codec::writer::SEGMENT_MEMBERSHIP_CHANGED;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    faults::{Action, Plan, Whom},
    proxy::{Mode, Proxy},
    rig::{
        broker::{Broker, Detour},
        free_port,
        process::Listkeeper,
        registry::Registry,
        stage::{Account, PARTITIONS},
        wait,
    },
    stream::{CANARY, SEGMENTS, Stream},
};

/// The most replicas of a round.
const REPLICAS_MAX: usize = 3;
/// How long everything may take to drain when faults have stopped: some takeovers, and a few hundred calls.
const DRAIN: Duration = Duration::from_secs(180);
const STOP: Duration = Duration::from_secs(60);
/// Behind its fencing an owner waits at least so long for its first call: from whoever sent before, nothing comes later.
const HANDOVER: Duration = Duration::from_millis(900);

/// An export: name, list, segments.
type Export = (&'static str, &'static str, &'static [&'static str]);

/// The forms of the configuration, of which a round begins with the first: a segment more, a segment less, an export more.
/// (Of an export that is removed the list stays as it was: it is compared where the export is back at the end.)
const FORMS: [&[Export]; 4] = [
    &[("vip", "VIP customers", &[SEGMENTS[0], SEGMENTS[1]]), ("news", "Newsletter", &[SEGMENTS[2]])],
    &[("vip", "VIP customers", &[SEGMENTS[0], SEGMENTS[1], SEGMENTS[2]]), ("news", "Newsletter", &[SEGMENTS[2]])],
    &[("vip", "VIP customers", &[SEGMENTS[0]]), ("news", "Newsletter", &[SEGMENTS[2]])],
    &[
        ("vip", "VIP customers", &[SEGMENTS[0], SEGMENTS[1]]),
        ("news", "Newsletter", &[SEGMENTS[2]]),
        ("all", "Everybody", &[SEGMENTS[0], SEGMENTS[2], SEGMENTS[3]]),
    ],
];
/// Between one replica and the next, when a configuration is rolled out.
const ROLL: Duration = Duration::from_millis(1_500);

/// What all rounds share: the broker, whose further listeners stand behind proxies, and the registry.
pub struct Rig {
    broker: Option<Broker>,
    ways: Vec<Proxy>,
    detours: Vec<Detour>,
    registry: Registry,
}

impl Rig {
    /// Starts it.
    pub fn start() -> Self {
        let (mut ways, mut detours) = (Vec::new(), Vec::new());
        for _ in 0..REPLICAS_MAX {
            let listens = free_port();
            let way = Proxy::start(SocketAddr::from(([127, 0, 0, 1], listens)));
            detours.push(Detour { listens, advertised: way.address.port() });
            ways.push(way);
        }
        Self { broker: Some(Broker::start_with(&detours)), ways, detours, registry: Registry::start() }
    }

    fn broker(&mut self) -> &Broker {
        // A round that failed while it was being started again leaves none.
        let detours = &self.detours;
        self.broker.get_or_insert_with(|| Broker::start_with(detours))
    }

    /// The end of the broker's log, while there is one.
    pub fn log(&self) -> String {
        self.broker.as_ref().map(Broker::log).unwrap_or_default()
    }
}

/// A place for a replica: the process that is there now, and its ways.
struct Slot {
    name: String,
    config: PathBuf,
    process: Option<Listkeeper>,
    lives: u32,
    paused: bool,
    stopping: bool,
    /// The form of its configuration's file, and that of the process.
    form: usize,
    runs: usize,
    api: Proxy,
    resumed: Vec<Instant>,
}

/// A round that is under way.
pub struct Round<'a> {
    seed: u64,
    plan: Plan,
    folder: PathBuf,
    topic: String,
    group: String,
    account: Account,
    stream: Stream,
    slots: Vec<Slot>,
    rig: &'a mut Rig,
    /// The form of the configuration that was rolled out last.
    form: usize,
    /// What ends something that an action began.
    follow_ups: Vec<(Instant, FollowUp)>,
}

#[derive(Debug, Clone, Copy)]
enum FollowUp {
    Start(usize),
    Continue(usize),
    ContinueBroker,
    Api(usize),
    Kafka(usize),
    /// The newest form, for this replica.
    Roll(usize),
}

/// What a round came to.
struct Figures {
    members: String,
    calls: u64,
    most: u64,
    letters: usize,
}

impl<'a> Round<'a> {
    /// Prepares the round of a seed in a folder.
    pub fn new(rig: &'a mut Rig, seed: u64, folder: PathBuf) -> Self {
        let plan = Plan::new(seed);
        let (topic, group) = (format!("changes-{seed}-{}", free_port()), format!("group-{seed}-{}", free_port()));
        let schema = rig.registry.register(&format!("{topic}-value"), SEGMENT_MEMBERSHIP_CHANGED);
        rig.ways.iter().for_each(|way| way.set(Mode::Pass));
        let broker = rig.broker();
        broker.create_topic(&topic, PARTITIONS);
        // Of a profile that left a segment which is then removed nobody can say whether its newer address counts.
        let moves = !plan.rolls();
        let stream = Stream::new(&broker.address, &topic, schema, seed, plan.profiles, moves);
        std::fs::write(folder.join("secret"), "s").expect("a file");
        std::fs::write(folder.join("token"), "t").expect("a file");
        let more = ["--activity-seconds", plan.activity_seconds, "--seed", &seed.to_string()];
        let account = Account::start_with(&folder, "127.0.0.1:0", &more);
        let slot = |number: usize| Slot {
            name: format!("r{number}"),
            config: folder.join(format!("r{number}.yaml")),
            process: None,
            lives: 0,
            paused: false,
            stopping: false,
            form: 0,
            runs: 0,
            api: Proxy::start(account.address),
            resumed: Vec::new(),
        };
        let slots = (0..plan.replicas).map(slot).collect();
        let round = Self { seed, plan, folder, topic, group, account, stream, slots, rig, form: 0, follow_ups: Vec::new() };
        (0..round.slots.len()).for_each(|number| round.write_configuration(number));
        round
    }

    fn write_configuration(&self, number: usize) {
        let (group, topic, folder, park) = (&self.group, &self.topic, self.folder.display(), self.plan.park_after_seconds);
        let (slot, way, registry) = (&self.slots[number], &self.rig.ways[number], self.rig.registry.url());
        // Forms that follow one another take most of a list off it, and nobody is there to approve of that.
        let exports: String = FORMS[slot.form]
            .iter()
            .map(|(name, list, segments)| {
                format!(
                    "  {name}: {{ connection: news, list: {{ name: {list}, create: true }}, segments: [{}], starts: at_once,\n    \
                     fields: {{ email: profile.email, first_name: profile.first_name }}, removals: {{ hold_above_percent: 100 }} }}\n",
                    segments.join(", ")
                )
            })
            .collect();
        let (broker, api, admin) = (way.address, slot.api.address, free_port());
        let text = format!(
            r#"kafka: {{ brokers: ["{broker}"], group: {group}, options: {{ session.timeout.ms: "3000", heartbeat.interval.ms: "300" }} }}
source: {{ topic: {topic}, avro: {{ registry_url: "{registry}" }} }}
timing: {{ quiet_seconds: 1, request_deadline_seconds: 2, index_lag_seconds: 1, drain_seconds: 10, park_after_seconds: {park} }}
state: {{ replication_factor: 1 }}
log: {{ format: text, level: info }}
admin: {{ listen: "127.0.0.1:{admin}" }}
constant_contact: {{ api_url: "http://{api}/v3", token_url: "http://{api}/oauth2/token" }}
applications: {{ main: {{ client_id: abc, client_secret_file: {folder}/secret, refresh_tokens: rotating }} }}
connections:
  news:
    display_name: Newsletter
    application: main
    token_store: {{ access_token_file: {folder}/token }}
    privacy_consent: {{ accepted_by: ana, accepted_at: "2026-11-20T09:00:00Z", text: v1 }}
exports:
{exports}"#
        );
        std::fs::write(&slot.config, text).expect("a file");
    }

    /// Runs it; what it was like, as one line.
    pub fn run(&mut self) -> String {
        let began = Instant::now();
        (0..self.plan.events_at_first).for_each(|_| self.stream.next());
        (0..self.slots.len()).for_each(|number| self.start(number));
        let mut actions = std::mem::take(&mut self.plan.actions).into_iter().peekable();
        let (mut done, mut said) = (BTreeMap::<&str, u32>::new(), 0);
        let faults = Instant::now();
        wait::until("the faults are done", self.plan.lasts * 10, || {
            let now = faults.elapsed();
            let due = u32::try_from(now.as_millis()).expect("small") * self.plan.events_per_second / 1_000;
            (said..due).for_each(|_| self.stream.next());
            said = said.max(due);
            while let Some((_, action)) = actions.next_if(|(at, _)| *at <= now) {
                self.act(action);
                *done.entry(action.name()).or_default() += 1;
            }
            self.follow_up(false);
            (now >= self.plan.lasts).then_some(())
        });
        self.heal();
        self.drain();
        let Figures { members, calls, most, letters } = self.compare();
        let faults: Vec<String> = done.iter().map(|(name, times)| format!("{name} {times}")).collect();
        format!(
            "seed {}: {} replicas, {} starts; {}; {} events, {calls} calls, most in a second {most}, \
             lists equal ({members}), {letters} dead letters, {:.1} s",
            self.seed,
            self.slots.len(),
            self.slots.iter().map(|slot| slot.lives).sum::<u32>(),
            if faults.is_empty() { "no faults".to_owned() } else { faults.join(", ") },
            self.stream.events(),
            began.elapsed().as_secs_f64()
        )
    }

    fn start(&mut self, number: usize) {
        let (folder, slot) = (&self.folder, &mut self.slots[number]);
        if slot.process.is_some() {
            return;
        }
        slot.lives += 1;
        slot.runs = slot.form;
        let config = slot.config.display().to_string();
        let process = Listkeeper::start(folder, &format!("{}-{}", slot.name, slot.lives), &["run", "--config", &config]);
        slot.process = Some(process);
    }

    fn whom(&self, whom: Whom) -> Vec<usize> {
        match whom {
            Whom::All => (0..self.slots.len()).collect(),
            Whom::Number(number) => vec![number],
            Whom::Sender => {
                (0..self.slots.len()).max_by_key(|number| self.slots[*number].api.last_request()).into_iter().collect()
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = Instant::now();
        match action {
            Action::Kill(whom, rest) => {
                for number in self.whom(whom) {
                    // Dropped, it is killed.
                    drop(self.slots[number].process.take());
                    (self.slots[number].paused, self.slots[number].stopping) = (false, false);
                    self.follow_ups.push((now + rest, FollowUp::Start(number)));
                }
            }
            Action::Stop(whom) => {
                self.whom(whom).into_iter().for_each(|number| self.stop(number));
            }
            Action::Pause(whom, time) => {
                for number in self.whom(whom) {
                    let slot = &mut self.slots[number];
                    if let (Some(process), false) = (&slot.process, slot.stopping) {
                        process.signal(Signal::SIGSTOP);
                        slot.paused = true;
                        self.follow_ups.push((now + time, FollowUp::Continue(number)));
                    }
                }
            }
            Action::KillBroker => {
                if let Some(broker) = self.rig.broker.take() {
                    broker.process.signal(Signal::SIGKILL);
                    self.rig.broker = Some(broker.restart());
                }
            }
            Action::PauseBroker(time) => {
                self.rig.broker().process.signal(Signal::SIGSTOP);
                self.follow_ups.push((now + time, FollowUp::ContinueBroker));
            }
            Action::Api(whom, mode, time) => {
                for number in self.whom(whom) {
                    self.slots[number].api.set(mode);
                    self.follow_ups.push((now + time, FollowUp::Api(number)));
                }
            }
            Action::Kafka(whom, mode, time) => {
                for number in self.whom(whom) {
                    self.rig.ways[number].set(mode);
                    self.follow_ups.push((now + time, FollowUp::Kafka(number)));
                }
            }
            Action::Roll(form) => {
                self.form = form;
                // The sender first, so that a replica with the file of before takes over.
                let mut order: Vec<usize> = (0..self.slots.len()).collect();
                let sender = self.whom(Whom::Sender);
                order.sort_by_key(|number| !sender.contains(number));
                for (at, number) in order.into_iter().enumerate() {
                    self.follow_ups.push((now + ROLL * u32::try_from(at).expect("small"), FollowUp::Roll(number)));
                }
            }
        }
    }

    /// Does what is due, or all of it; starts again what has stopped in order.
    fn follow_up(&mut self, all: bool) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.follow_ups).into_iter().partition(|(at, _)| all || *at <= now);
        self.follow_ups = later;
        let due: Vec<(Instant, FollowUp)> = due;
        for (_, follow_up) in due {
            match follow_up {
                FollowUp::Start(number) => self.start(number),
                FollowUp::Continue(number) => self.resume(number),
                FollowUp::ContinueBroker => self.rig.broker().process.signal(Signal::SIGCONT),
                FollowUp::Api(number) => self.slots[number].api.set(Mode::Pass),
                FollowUp::Kafka(number) => self.rig.ways[number].set(Mode::Pass),
                FollowUp::Roll(number) => {
                    self.slots[number].form = self.form;
                    self.write_configuration(number);
                    self.stop(number);
                }
            }
        }
        for number in 0..self.slots.len() {
            let slot = &mut self.slots[number];
            let ended = slot.process.as_mut().and_then(Listkeeper::exit);
            if let Some(status) = ended {
                let log = slot.process.as_ref().map(Listkeeper::log).unwrap_or_default();
                assert!(slot.stopping && status.success(), "{} ended by itself: {status}\n{log}", slot.name);
                (slot.process, slot.stopping) = (None, false);
                self.start(number);
            }
        }
    }

    /// Asks a replica to stop in order; it is started again when it has.
    fn stop(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        if let (Some(process), false, false) = (&slot.process, slot.paused, slot.stopping) {
            process.signal(Signal::SIGTERM);
            slot.stopping = true;
        }
    }

    fn resume(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        if let (Some(process), true) = (&slot.process, slot.paused) {
            slot.resumed.push(Instant::now());
            process.signal(Signal::SIGCONT);
            slot.paused = false;
        }
    }

    /// Ends all faults.
    fn heal(&mut self) {
        self.follow_up(true);
        wait::until("all run, each with the newest configuration", STOP, || {
            self.follow_up(true);
            // One that could not be asked to stop when the configuration was rolled out.
            let late: Vec<usize> = (0..self.slots.len()).filter(|number| self.slots[*number].runs != self.form).collect();
            late.into_iter().for_each(|number| self.stop(number));
            self.slots.iter().all(|slot| !slot.stopping && slot.process.is_some()).then_some(())
        });
        self.stream.flush();
    }

    /// Waits until nothing is left to be done.
    fn drain(&mut self) {
        self.rig.broker();
        let broker = self.rig.broker.as_ref().expect("a broker");
        for partition in 0..PARTITIONS {
            assert_eq!(
                broker.end(&self.topic, partition),
                self.stream.records(partition),
                "what was produced is in the topic, once"
            );
        }
        let group = format!("{}.0", self.group);
        wait::until_or(
            "every offset is committed",
            DRAIN,
            || self.standing(),
            || {
                let committed = |partition| broker.committed(&group, &self.topic, partition).unwrap_or(0);
                (0..PARTITIONS).all(|partition| committed(partition) >= self.stream.records(partition)).then_some(())
            },
        );
        let expected = self.expected();
        wait::until_or(
            "the lists equal the fold",
            DRAIN,
            || self.standing(),
            || expected.iter().all(|(list, members)| self.account.members(list) == *members).then_some(()),
        );
        wait::until_or(
            "no activity is open",
            DRAIN,
            || self.standing(),
            || {
                let open = |state: &str| self.account.report()["activities_by_state"][state].as_u64().unwrap_or(0);
                (["initialized", "processing"].iter().all(|state| open(state) == 0)).then_some(())
            },
        );
    }

    fn expected(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        FORMS[self.form].iter().map(|(_, list, segments)| (*list, self.stream.members(segments))).collect()
    }

    /// How it stands, for the message of a wait in vain.
    fn standing(&self) -> String {
        let mut text = String::new();
        for (list, members) in self.expected() {
            let found = self.account.members(list);
            text.push_str(&format!(
                "{list}: {} expected, {} found, missing {:?}, surplus {:?}\n",
                members.len(),
                found.len(),
                members.difference(&found).take(5).collect::<Vec<_>>(),
                found.difference(&members).take(5).collect::<Vec<_>>()
            ));
        }
        for slot in &self.slots {
            let log = slot.process.as_ref().map(Listkeeper::log).unwrap_or_default();
            text.push_str(&format!("--- {}\n{log}\n", slot.name));
        }
        text
    }

    /// The exact comparison.
    fn compare(&self) -> Figures {
        let mut sizes = Vec::new();
        for (list, members) in self.expected() {
            assert_eq!(self.account.members(list), members, "the members of `{list}`");
            sizes.push(members.len().to_string());
        }
        let broker = self.rig.broker.as_ref().expect("a broker");
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let mut letters: Vec<String> =
            broker.read(&format!("{}.dead", self.group), 0).iter().map(|letter| text(&letter.key)).collect();
        letters.sort();
        let undecodable: Vec<String> = self.stream.undecodable().iter().map(|key| text(key)).collect();
        assert_eq!(letters, undecodable, "each record that nobody can read is one dead letter");
        let report = self.account.report();
        assert_eq!(report["violations"], Value::Array(Vec::new()), "{report}");
        let most = report["max_in_a_second"].as_u64().expect("a count");
        assert!(most <= 4, "{report}");
        self.one_sends();
        self.logs_are_private();
        let calls = report["requests"].as_u64().expect("a count");
        Figures { members: sizes.join(" + "), calls, most, letters: letters.len() }
    }

    /// Each replica has its own way to the account: who follows another keeps a distance.
    fn one_sends(&self) {
        let mut sent: Vec<(Instant, usize)> = Vec::new();
        for (number, slot) in self.slots.iter().enumerate() {
            sent.extend(slot.api.requests().into_iter().map(|at| (at, number)));
        }
        sent.sort();
        for pair in sent.windows(2) {
            let [(before, first), (after, second)] = [pair[0], pair[1]];
            // A request in the middle of which a process was stopped may come when it wakes.
            let woke = self.slots[second].resumed.iter().any(|at| after.duration_since(*at) < HANDOVER);
            assert!(
                first == second || woke || after.duration_since(before) >= HANDOVER,
                "r{first} and r{second} sent within {:?}",
                after.duration_since(before)
            );
        }
    }

    fn logs_are_private(&self) {
        for entry in std::fs::read_dir(&self.folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "err") {
                let text = String::from_utf8_lossy(&std::fs::read(&path).expect("a log")).to_lowercase();
                for word in [CANARY, "@example", "panicked"] {
                    assert!(!text.contains(&word.to_lowercase()), "{} holds `{word}`", path.display());
                }
            }
        }
    }

    /// What the account saw, for whoever looks for the cause of a failure.
    pub fn report(&self) -> Value {
        self.account.report()
    }
}
