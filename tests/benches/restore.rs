//! How long a new owner takes to make an engine of the state of a million applied profiles, and what one of them costs in
//! memory: records decoded from their bytes, taken by the engine, and the term begun. What Kafka needs to hand the bytes
//! over is not in it: `drain` shows that of the real binary. Run it with `tests/run bench`.

use std::sync::Arc;

use listkeeper::{
    codec,
    engine::{Beginning, Engine, Output, PartitionBeginning},
    model::{
        ListId, Text,
        catalog::{
            Application, ApplicationId, Backfill, Catalog, ClientIdHash, Connection, ConnectionId, Consent, Export, FieldId,
            ListRef, Mapping, NoAddress, OnErasure, OnExit, RemovalStrategy, Timing,
        },
        hash::text_hash,
        position::{NextOffset, PartitionId, Position},
        state::{
            Applied, ExportRecord, Header, MemberCut, PartitionHeader, RoutedExport, STATE_FORMAT, StateChange, StateKey,
            StateValue,
        },
        time::{Mono, Now, UnixMillis},
    },
};

// As the binary has it: what memory costs depends on it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PROFILES: u32 = 1_000_000;
const LIST: ListId = ListId::from_u128(7);
const AT: UnixMillis = UnixMillis(1_795_478_400_000);

fn catalog() -> Catalog {
    Catalog {
        applications: vec![Application {
            name: "app".into(),
            client_id_hash: ClientIdHash(1),
            calls_per_second: Some(4),
            calls_per_day: Some(10_000),
            reserved_for_others_percent: 0,
        }],
        connections: vec![Connection {
            name: "news".into(),
            application: ApplicationId(0),
            consent: Some(Consent { accepted_by: "ana".into(), accepted_at: AT, text: "v1".into() }),
            refreshes: false,
            on_erasure: OnErasure::RemoveFromLists,
            contacts_max: None,
        }],
        exports: vec![Export {
            name: "vip".into(),
            connection: ConnectionId(0),
            list: ListRef::Id(LIST),
            segments: vec!["gold".into()],
            mapping: Mapping::address_alone(FieldId(0), 1),
            no_address: NoAddress::Skip,
            on_exit: OnExit::Remove,
            backfill: Backfill::FromSource,
            removal_strategies: vec![RemovalStrategy::LookUp, RemovalStrategy::Scan],
            profiles_per_hour_max: None,
            weight: 1,
            adopts_existing: false,
            removal_brake: None,
            starts_at_once: true,
        }],
        fields: vec!["profile.email".into()],
        timing: Timing::default(),
        profiles_max: 20_000_000,
    }
}

/// The state's records, as they lie in the topic.
fn records() -> Vec<(Vec<u8>, Vec<u8>)> {
    let member = |number: u32| {
        let address = Text::from(format!("customer.{number}@example.com"));
        let cut = MemberCut {
            segments: vec!["gold".into()],
            address: Some(address.clone()),
            positions: vec![Position { partition: PartitionId(0), offset: i64::from(number) }],
            changed_at: AT,
            applied: vec![Applied { address, list: LIST, row_hash: text_hash("row"), at: AT }],
            ..MemberCut::default()
        };
        let key = StateKey::Member { export: "vip".into(), profile: format!("profile-{number}").into() };
        (key, StateValue::Member(cut))
    };
    let next = NextOffset { partition: PartitionId(0), offset: i64::from(PROFILES) };
    let routed = RoutedExport {
        export: "vip".into(),
        connection: "news".into(),
        list: LIST.to_string().into(),
        mapping_hash: 1,
        segments: vec!["gold".into()],
    };
    let header = Header {
        format: STATE_FORMAT,
        written_at: AT,
        ended: true,
        partitions: vec![PartitionHeader { next, last_settled: None }],
        grown: Vec::new(),
        routed: vec![routed],
        stopped: Vec::new(),
    };
    let export = ExportRecord { list: Some(LIST), existing_read: true, ..ExportRecord::default() };
    let others =
        [(StateKey::Export { export: "vip".into() }, StateValue::Export(export)), (StateKey::Header, StateValue::Header(header))];
    let bytes = |(key, value): (StateKey, StateValue)| {
        let mut bytes = Vec::new();
        codec::state::encode_value(&value, &mut bytes);
        (codec::state::encode_key(&key), bytes)
    };
    (0..PROFILES).map(member).chain(others).map(bytes).collect()
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") * 1024.0
}

#[expect(clippy::disallowed_methods, reason = "a benchmark times real work")]
fn main() {
    use std::io::Write as _;
    let records = records();
    let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
    let before = resident_bytes();
    let began = std::time::Instant::now();
    let mut engine = Engine::new(Arc::new(catalog()), 1);
    let mut decoding = std::time::Duration::ZERO;
    // In hand-overs, as the reader of the state makes them.
    for batch in records.chunks(4_096) {
        let decode = std::time::Instant::now();
        let changes: Vec<StateChange> =
            batch.iter().map(|(key, value)| codec::state::decode(key, Some(value)).expect("a record")).collect();
        decoding += decode.elapsed();
        changes.into_iter().for_each(|change| engine.restore(change));
    }
    let start = NextOffset { partition: PartitionId(0), offset: i64::from(PROFILES) };
    let partition = PartitionBeginning { start, committed: true, log_start: 0, log_end: start.offset, settled_hash: None };
    let now = Now { mono: Mono(1_000_000), wall: AT };
    engine.begin(now, &Beginning { partitions: vec![partition], fenced_at: now.mono }).expect("state and source agree");
    let seconds = began.elapsed().as_secs_f64();
    while let Some(output) = engine.poll_output() {
        assert!(!matches!(output, Output::Call(_)), "what was applied is not sent again");
    }
    let view = engine.snapshot(now);
    assert_eq!((view.exports[0].profiles, view.exports[0].members), (u64::from(PROFILES), u64::from(PROFILES)));
    let each = (resident_bytes() - before) / f64::from(PROFILES);
    let text = format!(
        "restore: {PROFILES} applied profiles of {} MiB in {seconds:.2} s, {:.0} % of it decoding; {each:.0} bytes of memory for \
         each, with id and address\n",
        bytes >> 20,
        100.0 * decoding.as_secs_f64() / seconds,
    );
    std::io::stdout().write_all(text.as_bytes()).expect("stdout");
}
