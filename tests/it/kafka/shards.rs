//! Several shards and several applications: one replica has them all, others come, one leaves, one dies.

use std::{collections::BTreeSet, io::Write as _, net::SocketAddr, path::PathBuf, time::Instant};

use listkeeper::codec::writer::SEGMENT_MEMBERSHIP_CHANGED;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    proxy::{Proxy, Request, one_sends},
    rig::{
        applications::{Application, Store, sections, shard_of},
        broker::Broker,
        free_port, http,
        process::Listkeeper,
        registry::Registry,
        scratch,
        stage::{Account, LIMIT, PARTITIONS, Replica},
        wait,
    },
    stream::{CANARY, SEGMENTS, Stream},
};

const SHARDS: u32 = 4;
/// The shard of each application: one shard has two, and the third has none.
const SHARD_OF: [u32; 5] = [0, 1, 1, 3, 3];
const LISTS: [&str; 5] = ["Gold or silver", "Gold", "Silver or bronze", "Gold or bronze", "Anybody"];
const SEGMENTS_OF: [&[&str]; 5] = [
    &[SEGMENTS[0], SEGMENTS[1]],
    &[SEGMENTS[0]],
    &[SEGMENTS[1], SEGMENTS[2]],
    &[SEGMENTS[0], SEGMENTS[2]],
    &[SEGMENTS[0], SEGMENTS[1], SEGMENTS[2], SEGMENTS[3]],
];
const EVENTS_PER_SECOND: u64 = 40;

/// A replica, and its way to the accounts.
struct Member {
    name: &'static str,
    replica: Replica,
    api: Proxy,
}

struct Shards {
    broker: &'static Broker,
    topic: String,
    group: String,
    folder: PathBuf,
    account: Account,
    applications: Vec<Application>,
    stream: Stream,
    began: Instant,
    said: u64,
}

impl Shards {
    fn new(name: &str) -> Self {
        let (broker, registry, folder) = (Broker::shared(), Registry::shared(), scratch(name));
        let (topic, group) = (format!("{name}-changes"), format!("{name}-group"));
        broker.create_topic(&topic, PARTITIONS);
        let schema = registry.register(&format!("{topic}-value"), SEGMENT_MEMBERSHIP_CHANGED);
        let account = Account::start_with(&folder, "127.0.0.1:0", &["--activity-seconds", "0.3", "--account-for-each-key"]);
        let mut applications: Vec<Application> = Vec::new();
        for (number, shard) in SHARD_OF.into_iter().enumerate() {
            let free = |id: &String| shard_of(id, SHARDS) == shard && applications.iter().all(|known| known.client_id != *id);
            let client_id = (0..1_000).map(|number| format!("key-{number}")).find(free).expect("a key of that shard");
            let store = if number == 2 { Store::Fixed } else { Store::Rotating };
            applications.push(Application { client_id, store, exports: vec![("list", LISTS[number], SEGMENTS_OF[number])] });
            applications[number].sign_in(&folder);
        }
        let stream = Stream::new(&broker.address, &topic, schema, 7, 600, true);
        Self { broker, topic, group, folder, account, applications, stream, began: Instant::now(), said: 0 }
    }

    fn member(&self, name: &'static str) -> Member {
        let (api, admin) = (Proxy::start(self.account.address), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let (broker, group, topic, registry) = (&self.broker.address, &self.group, &self.topic, Registry::shared().url());
        let (account, applications) = (api.address, sections(&self.applications, &self.folder));
        let text = format!(
            r#"kafka: {{ brokers: ["{broker}"], group: {group}, options: {{ session.timeout.ms: "3000", heartbeat.interval.ms: "300" }} }}
source: {{ topic: {topic}, avro: {{ registry_url: "{registry}" }} }}
timing: {{ quiet_seconds: 1, request_deadline_seconds: 2, index_lag_seconds: 1, drain_seconds: 20 }}
state: {{ shards: {SHARDS}, replication_factor: 1 }}
log: {{ format: text, level: info }}
admin: {{ listen: "{admin}" }}
constant_contact: {{ api_url: "http://{account}/v3", token_url: "http://{account}/oauth2/token" }}
{applications}"#
        );
        let file = self.folder.join(format!("{name}.yaml"));
        std::fs::write(&file, text).expect("a file");
        let process = Listkeeper::start(&self.folder, name, &["run", "--config", &file.display().to_string()]);
        Member { name, replica: Replica { process, admin }, api }
    }

    /// Waits, with events under way.
    fn meanwhile<T>(&mut self, what: &str, members: &[&Member], mut ask: impl FnMut() -> Option<T>) -> T {
        let logs = || members.iter().map(|one| format!("{}\n{}", one.name, one.replica.process.log())).collect::<String>();
        let (stream, said, began) = (&mut self.stream, &mut self.said, self.began);
        wait::until_or(what, LIMIT, logs, || {
            let due = u64::try_from(began.elapsed().as_millis()).expect("small") * EVENTS_PER_SECOND / 1_000;
            (*said..due).for_each(|_| stream.next());
            *said = due.max(*said);
            ask()
        })
    }

    /// Waits until every shard is worked on by one of these, and each has at least one; gives whose they are.
    fn shared_out(&mut self, members: &[&Member]) -> Vec<BTreeSet<u64>> {
        let at_work = || {
            let of: Vec<BTreeSet<u64>> = members.iter().map(|one| one.replica.shards_at_work()).collect();
            let (count, all) = (of.iter().map(BTreeSet::len).sum::<usize>(), of.iter().flatten().collect::<BTreeSet<_>>());
            let whole = count == all.len() && all.len() == usize::try_from(SHARDS).expect("small");
            (whole && of.iter().all(|mine| !mine.is_empty())).then_some(of)
        };
        self.meanwhile(&format!("{} share the shards", members.len()), members, at_work)
    }

    /// Waits until each of these has called, from now on, for every application of its shards; gives whose shards are whose.
    fn called_by(&mut self, members: &[&Member]) -> Vec<BTreeSet<u64>> {
        let began = Instant::now();
        let of = self.shared_out(members);
        let tokens = |mine: &BTreeSet<u64>| -> Vec<String> {
            let of_it = self.applications.iter().filter(|one| mine.contains(&u64::from(shard_of(&one.client_id, SHARDS))));
            of_it.map(|one| one.access_token(&self.folder).expect("a token")).collect()
        };
        let wanted: Vec<Vec<String>> = of.iter().map(tokens).collect();
        let called = |(member, tokens): (&&Member, &Vec<String>)| {
            let sent: Vec<Request> = member.api.requests().into_iter().filter(|request| request.at > began).collect();
            tokens.iter().all(|token| sent.iter().any(|request| request.token == *token))
        };
        let all = || members.iter().zip(&wanted).all(called).then_some(());
        self.meanwhile(&format!("{} call for what they have", members.len()), members, all);
        of
    }

    /// Waits until nothing is left to be done in these shards.
    fn drain(&self, shards: impl IntoIterator<Item = u32>, member: &Member) {
        self.stream.flush();
        let log = || member.replica.process.log();
        for shard in shards {
            let group = format!("{}.{shard}", self.group);
            let committed = |partition| self.broker.committed(&group, &self.topic, partition).unwrap_or(0);
            let all = || (0..PARTITIONS).all(|partition| committed(partition) >= self.stream.records(partition)).then_some(());
            wait::until_or(&format!("every offset of shard {shard} is committed"), LIMIT, log, all);
        }
        for (application, segments) in self.applications.iter().zip(SEGMENTS_OF) {
            let (key, expected) = (&application.client_id, self.stream.members(segments));
            let list = application.exports[0].1;
            let equal = || (self.account.members_of(key, list) == expected).then_some(());
            wait::until_or(&format!("the list of {key} equals the fold"), LIMIT, log, equal);
        }
    }

    fn expect_promises(&self, members: &[&Member]) {
        let letters = self.broker.read(&format!("{}.dead", self.group), 0);
        let mut keys: Vec<Vec<u8>> = letters.into_iter().map(|letter| letter.key).collect();
        keys.sort();
        assert_eq!(keys, self.stream.undecodable().iter().cloned().collect::<Vec<_>>(), "one letter for each");
        let ways: Vec<(&str, Vec<Request>, &[Instant])> =
            members.iter().map(|one| (one.name, one.api.requests(), [].as_slice())).collect();
        let tokens: BTreeSet<String> = ways.iter().flat_map(|(_, sent, _)| sent.iter().map(|one| one.token.clone())).collect();
        // One refresh each, and nobody uses another's: what is seen on the ways tells the applications apart.
        let stored = self.applications.iter().filter_map(|one| one.access_token(&self.folder));
        assert_eq!(tokens, stored.collect());
        one_sends(&ways);
        let mut calls = 0;
        for application in &self.applications {
            self.account.expect_no_violations_of(&application.client_id);
            let report = self.account.report_of(&application.client_id);
            assert!(report["requests_by_day"].as_object().expect("days").values().all(|day| day.as_u64() <= Some(10_000)));
            calls += report["requests"].as_u64().expect("a count");
        }
        assert_eq!(self.account.report()["requests"], 0, "every request says whose it is");
        for member in members {
            let log = std::fs::read_to_string(self.folder.join(format!("{}.err", member.name))).expect("a log");
            assert!(!log.contains(CANARY) && !log.contains("@example") && !log.contains("panicked"), "{}", member.name);
        }
        say(&format!("{} events, {calls} calls, {} dead letters", self.stream.events(), keys.len()));
    }
}

/// A line that is shown also where the test succeeds.
fn say(text: &str) {
    writeln!(std::io::stderr(), "shards: {text}").expect("stderr");
}

/// What the admin port of a replica shows that has every shard.
fn shows_every_shard(member: &Member) {
    let replica = &member.replica;
    assert_eq!(http::get(replica.admin, "/readyz").map(|(status, _)| status), Some(200));
    let health = replica.health().expect("health");
    assert_eq!(health["role"], "owner", "{health}");
    for (number, shard) in SHARD_OF.into_iter().enumerate() {
        let shown = &health["shards"][usize::try_from(shard).expect("small")]["snapshot"]["exports"];
        let names: Vec<&str> = shown.as_array().expect("exports").iter().filter_map(|one| one["name"].as_str()).collect();
        assert!(names.contains(&format!("list-{number}").as_str()), "{health}");
        let application = format!("application=\"main-{number}\"");
        assert!(replica.metric("listkeeper_calls_used", &application) >= 1.0, "{application}");
        assert!(replica.metric("listkeeper_members", &format!("export=\"list-{number}\"")) >= 1.0, "{number}");
    }
    for shard in 0..SHARDS {
        let label = format!("shard=\"{shard}\"");
        assert!((replica.metric("listkeeper_owner", &label) - 1.0).abs() < 0.5, "{label}");
        assert!(replica.metric("listkeeper_watermark", &label) >= 1.0, "{label}");
        // Each reads the source for itself; counted together it would seem read as often as there are shards.
        assert!(replica.metric("listkeeper_records_total", &label) >= 300.0, "{label}");
    }
    // What nobody can read is counted where its letters are written, and there alone.
    let unreadable = |shard: u32| {
        let series = format!("outcome=\"wire_format\",shard=\"{shard}\"");
        replica.metric("listkeeper_records_total", &series)
    };
    assert!((1..SHARDS).all(|shard| unreadable(shard) < 0.5));
    wait::until("as many letters as records that nobody can read", LIMIT, || {
        let letters = replica.metric("listkeeper_dead_letters_total", "");
        ((unreadable(0) - letters).abs() < 0.5).then_some(())
    });
}

#[test]
fn four_shards_and_five_applications_while_replicas_come_leave_and_die() {
    let mut shards = Shards::new("shards");
    (0..400).for_each(|_| shards.stream.next());
    let first = shards.member("first");
    shards.shared_out(&[&first]);
    let of_all = |replica: &Replica| (0..5).all(|one| replica.metric("listkeeper_members", &format!("\"list-{one}\"")) >= 1.0);
    shards.meanwhile("every list has members", &[&first], || of_all(&first.replica).then_some(()));
    shows_every_shard(&first);

    let second = shards.member("second");
    let of = shards.called_by(&[&first, &second]);
    say(&format!("two share them: {of:?}"));
    let third = shards.member("third");
    let of = shards.called_by(&[&first, &second, &third]);
    say(&format!("three share them: {of:?}"));

    let mut leaver = first;
    leaver.replica.process.signal(Signal::SIGTERM);
    let left = Instant::now();
    shards.shared_out(&[&second, &third]);
    let took_over = left.elapsed();
    assert!(leaver.replica.process.ended(LIMIT).success(), "{}", leaver.replica.process.log());
    let of = shards.called_by(&[&second, &third]);
    let (took_over, called) = (took_over.as_secs_f64(), left.elapsed().as_secs_f64());
    say(&format!("asked to leave: after {took_over:.1} s the others had its state, after {called:.1} s called for all: {of:?}"));

    let (died, lost) = (Instant::now(), &of[1]);
    third.replica.process.signal(Signal::SIGKILL);
    shards.shared_out(&[&second]);
    let took_over = died.elapsed();
    shards.called_by(&[&second]);
    let (took_over, called) = (took_over.as_secs_f64(), died.elapsed().as_secs_f64());
    say(&format!(
        "killed with {lost:?}: after {took_over:.1} s the standby had its state, after {called:.1} s called for all (the session \
         ends after 3 s; for 8 s behind the fencing a request of the dead one may be under way)"
    ));
    assert!(called < 60.0, "{called}");

    shards.drain(0..SHARDS, &second);
    shards.expect_promises(&[&leaver, &second, &third]);
    shows_every_shard(&second);
}

#[test]
fn a_shard_that_is_held_is_seen_and_leaves_the_others_at_work() {
    let mut shards = Shards::new("shard-held");
    // The one without an application: every list is another's.
    let state = format!("{}.state", shards.group);
    let settings = [("cleanup.policy", "compact"), ("max.compaction.lag.ms", "86400000"), ("segment.ms", "86400000")];
    shards.broker.create_topic_with(&state, i32::try_from(SHARDS).expect("small"), &settings);
    shards.broker.produce(&state, 2, &[(b"member/vip/p1", b"nonsense")]);
    (0..200).for_each(|_| shards.stream.next());
    let member = shards.member("first");
    member.replica.wait_for_reason("state_unreadable");
    shards.drain([0, 1, 3], &member);
    let replica = &member.replica;
    assert_eq!(replica.shards_at_work(), BTreeSet::from([0, 1, 3]));
    let health = replica.health().expect("health");
    assert_eq!((&health["moving"], &health["shards"][2]["phase"]), (&false.into(), &"held".into()), "{health}");
    let held: Vec<&Value> = health["reasons"].as_array().into_iter().flatten().map(|reason| &reason["who"]).collect();
    assert_eq!(held, ["shard 2"], "{health}");
    assert!((replica.metric("listkeeper_held", "holder=\"shard\"") - 1.0).abs() < 0.5);
    assert!((replica.metric("listkeeper_held", "holder=\"shard\",name=\"2\"") - 1.0).abs() < 0.5);
    assert_eq!(http::get(replica.admin, "/readyz").map(|(status, _)| status), Some(200), "another could do no more");
    let log = std::fs::read_to_string(shards.folder.join("first.err")).expect("a log");
    let said = |line: &str| line.contains("held") && line.contains("holder=\"shard\"") && line.contains("name=2");
    assert!(log.lines().any(said), "{}", replica.process.log());
}
