//! Against librdkafka's mock cluster, which accepts transactions but fences nothing and hides nothing: what is shown
//! here is the order of a term, the round trip of the state and the reader's behaviour. What only a real broker
//! proves is in the tests with one.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use tokio::{runtime::Runtime, sync::mpsc::Receiver, time::timeout};

use super::{settings::tests::settings, *};
use crate::{
    codec::{EventDecoder, EventFormat, FieldPaths, state},
    engine::output::{Commit, CommitId},
    model::{
        ListId,
        batch::{BatchName, Operation},
        dead_letter::{DeadLetter, LetterOriginal, LetterReason},
        event::{ChangeKind, DecodeFault, RecordContent, SourceRecord},
        position::{NextOffset, PartitionId, Position},
        state::{BatchChunk, BatchContact, Header, StateChange, StateKey, StateValue},
        time::{Mono, UnixMillis},
    },
};

const LIMIT: Duration = Duration::from_secs(30);

struct Stage {
    cluster: MockCluster<'static, DefaultProducerContext>,
    settings: Arc<KafkaSettings>,
    status: KafkaStatus,
    runtime: Runtime,
}

impl Stage {
    fn new(partitions: i32) -> Self {
        let cluster = MockCluster::new(1).expect("a cluster");
        let settings = settings(&cluster.bootstrap_servers(), "g");
        for (topic, count) in [(&settings.source_topic, partitions), (&settings.state_topic, 1), (&settings.dead_letter_topic, 1)]
        {
            cluster.create_topic(topic, count, 1).expect("a topic");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Self { cluster, settings: Arc::new(settings), status: KafkaStatus::default(), runtime }
    }

    fn next<T>(&self, receiver: &mut Receiver<T>) -> T {
        let next = self.runtime.block_on(async { timeout(LIMIT, receiver.recv()).await });
        next.expect("in time").expect("the sender is there")
    }

    fn owner(&self) -> (Ownership, Receiver<OwnershipEvent>) {
        let (ownership, mut events) = Ownership::join(&self.settings, &self.status).expect("a member");
        assert_eq!(self.next(&mut events), OwnershipEvent::Assigned(0));
        (ownership, events)
    }

    fn term(&self, ownership: &Ownership) -> (Vec<StateChange>, Term) {
        let begun = begin_term(&self.settings, 0, ownership.claim(), "me:1".into(), &self.status);
        let (_beginning, mut events) = begun.expect("a thread");
        let mut state = Vec::new();
        loop {
            match self.next(&mut events) {
                TermEvent::State(changes) => state.extend(changes),
                TermEvent::Begun(term) => return (state, *term),
                TermEvent::Failed(fault) => panic!("{fault}"),
            }
        }
    }

    fn reader(&self, from: &[(i32, i64)]) -> (SourceReader, Receiver<SourceEvent>) {
        let from: Vec<NextOffset> =
            from.iter().map(|(partition, offset)| NextOffset { partition: PartitionId(*partition), offset: *offset }).collect();
        let decoder = EventDecoder::new(FieldPaths::default(), EventFormat::Json).expect("a decoder");
        let handle = self.runtime.handle().clone();
        SourceReader::start(&self.settings, 0, &from, &[], decoder, None, handle, &self.status).expect("a reader")
    }

    fn produce(&self, partition: i32, values: &[&str]) {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.cluster.bootstrap_servers());
        let producer: ThreadedProducer<DefaultProducerContext> = client.create().expect("a producer");
        for value in values {
            let record: BaseRecord<'_, str, str> =
                BaseRecord::to(&self.settings.source_topic).partition(partition).key("p1").payload(value);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        producer.flush(LIMIT).expect("written");
    }

    /// The next records, however they are cut.
    fn records(&self, events: &mut Receiver<SourceEvent>, count: usize) -> Vec<SourceRecord> {
        let mut records = Vec::new();
        while records.len() < count {
            match self.next(events) {
                SourceEvent::Records(batch) => records.extend(batch),
                SourceEvent::At(_) => {}
                other => panic!("{other:?}"),
            }
        }
        records
    }
}

fn event(segment: &str) -> String {
    format!(r#"{{"profile_id":"p1","segment_id":"{segment}","change":"ENTERED","occurred_at":1}}"#)
}

fn header(written_at: i64) -> StateChange {
    let header = Header { format: 1, written_at: UnixMillis(written_at), ..Header::default() };
    StateChange { key: StateKey::Header, value: Some(StateValue::Header(header)) }
}

#[test]
fn what_a_term_commits_the_next_one_reads() {
    let stage = Stage::new(2);
    let (ownership, _events) = stage.owner();
    let (state, term) = stage.term(&ownership);
    assert_eq!(state, []);
    let starts: Vec<(i32, i64, bool)> =
        term.beginning.partitions.iter().map(|at| (at.start.partition.0, at.start.offset, at.committed)).collect();
    assert_eq!(starts, [(0, 0, false), (1, 0, false)]);
    assert!(term.beginning.fenced_at > Mono(0));
    assert_eq!(ownership.claim().owner(0), Ok(Some("me:1".into())));
    let fenced_at = term.beginning.fenced_at;

    stage.produce(1, &["nonsense"]);
    let (committer, mut answers) = Committer::start(term).expect("a thread");
    let letter = DeadLetter {
        position: Position { partition: PartitionId(1), offset: 0 },
        refused_by: None,
        reason: LetterReason::Decode(DecodeFault::Malformed),
        detail: "no JSON".into(),
        original: LetterOriginal::InSource,
    };
    let commit = Commit {
        commit: CommitId(1),
        changes: vec![StateChange { key: StateKey::Export { export: "vip".into() }, value: None }, header(7)],
        letters: vec![letter],
        offsets: vec![NextOffset { partition: PartitionId(1), offset: 1 }],
    };
    committer.commit(commit.clone()).expect("room");
    match stage.next(&mut answers) {
        CommitAnswer::Committed { commit: CommitId(1), began } => assert!(began >= fenced_at),
        other => panic!("{other:?}"),
    }
    committer.finish();
    let (state, _term) = stage.term(&ownership);
    assert_eq!(state, commit.changes);
    let mut settings = KafkaSettings::clone(&stage.settings);
    settings.source_topic = settings.dead_letter_topic.clone();
    let written = DeadLetter { position: Position { partition: PartitionId(0), offset: 0 }, ..commit.letters[0].clone() };
    let written = letters::originals(&settings, 0, &stage.status, &[written]).expect("a broker that answers");
    let letter = written.into_values().next().flatten().expect("the letter");
    assert_eq!(letter.value.as_deref(), Some(b"nonsense".as_slice()));
    ownership.leave();
}

#[test]
fn a_large_state_is_handed_on_in_small_parts() {
    let stage = Stage::new(1);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", stage.cluster.bootstrap_servers());
    let producer: ThreadedProducer<DefaultProducerContext> = client.create().expect("a producer");
    // The chunks of open batches are the largest records; until they are compacted away, all of them are read.
    let contact = BatchContact {
        profile: "p".repeat(100).into(),
        address: format!("{}@example.com", "a".repeat(60)).into(),
        contact_id: None,
        position: Position { partition: PartitionId(0), offset: 1 },
    };
    let chunk = BatchChunk {
        operation: Operation::Import,
        export: "vip".into(),
        list: ListId::from_u128(1),
        opened_at: UnixMillis(0),
        chunks: 60,
        given_up: false,
        rows: vec![contact; 1_000],
        connection: "news".into(),
        round: None,
        deletes: false,
    };
    let mut value = Vec::new();
    state::encode_value(&StateValue::Batch(chunk), &mut value);
    let keys: Vec<Vec<u8>> =
        (0..20).map(|chunk| state::encode_key(&StateKey::Batch { name: BatchName("b".into()), chunk })).collect();
    for key in &keys {
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&stage.settings.state_topic).partition(0).key(key.as_slice()).payload(value.as_slice());
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(LIMIT).expect("written");
    assert!(value.len() * keys.len() < 5 << 20, "the mock keeps no more");
    let (ownership, _events) = stage.owner();
    let begun = begin_term(&stage.settings, 0, ownership.claim(), "me:1".into(), &stage.status);
    let (_beginning, mut events) = begun.expect("a thread");
    let mut parts = Vec::new();
    while let TermEvent::State(changes) = stage.next(&mut events) {
        parts.push(changes.len());
    }
    assert_eq!(parts.iter().sum::<usize>(), keys.len());
    assert!(parts.len() > 1 && parts.iter().all(|part| part * value.len() <= (1 << 20) + value.len()), "{parts:?}");
    ownership.leave();
}

#[test]
fn a_shard_that_is_not_ours_is_not_begun() {
    let stage = Stage::new(1);
    let (ownership, _events) = stage.owner();
    let refused = ownership.claim().commit(1, "me:1");
    assert!(matches!(refused, Err(KafkaFault::NotOwner { shard: 1, .. })), "{refused:?}");
    ownership.leave();
}

#[test]
fn the_reader_decodes_keeps_order_and_obeys() {
    let stage = Stage::new(2);
    stage.produce(0, &[&event("a"), "nonsense", &event("b")]);
    let (reader, mut events) = stage.reader(&[(0, 0), (1, 0)]);
    let records = stage.records(&mut events, 3);
    let offsets: Vec<i64> = records.iter().map(|record| record.position.offset).collect();
    assert_eq!(offsets, [0, 1, 2]);
    match &records[1].content {
        RecordContent::Undecodable(fault) => {
            assert_eq!(fault.kind, DecodeFault::Malformed);
            assert_eq!(fault.original.value.as_deref(), Some(b"nonsense".as_slice()));
        }
        other => panic!("{other:?}"),
    }
    match &records[2].content {
        RecordContent::Event(event) => assert_eq!((event.change, event.segment_id.as_deref()), (ChangeKind::Entered, Some("b"))),
        other => panic!("{other:?}"),
    }

    // Paused, partition 0 keeps silent while partition 1 goes on; resumed, nothing of it is missing.
    reader.pause(&[PartitionId(0)]);
    stage.produce(1, &[&event("c")]);
    assert_eq!(stage.records(&mut events, 1)[0].position.partition, PartitionId(1));
    stage.produce(0, &[&event("d")]);
    stage.produce(1, &[&event("e")]);
    assert_eq!(stage.records(&mut events, 1)[0].position.partition, PartitionId(1));
    reader.resume(&[PartitionId(0)]);
    let records = stage.records(&mut events, 1);
    assert_eq!(records[0].position, Position { partition: PartitionId(0), offset: 3 });
    reader.stop();
}

#[test]
fn a_driver_that_takes_nothing_cannot_keep_the_reader_from_stopping() {
    let stage = Stage::new(1);
    let values: Vec<String> = (0..200).map(|segment| event(&segment.to_string())).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    (0..5).for_each(|_| stage.produce(0, &values));
    let (reader, events) = stage.reader(&[(0, 0)]);
    reader.stop();
    drop(events);
}

#[test]
fn an_offset_that_the_log_has_lost_ends_the_term() {
    let stage = Stage::new(1);
    stage.produce(0, &[&event("a")]);
    let (_reader, mut events) = stage.reader(&[(0, 50)]);
    assert!(matches!(stage.next(&mut events), SourceEvent::Failed(KafkaFault::OffsetGone { .. })));
}

#[test]
fn a_cluster_that_cannot_tell_settings_is_taken_and_said() {
    let stage = Stage::new(1);
    stage.runtime.block_on(topics::prepare(&stage.settings, &stage.status)).expect("good topics");
    assert_eq!(stage.status.view().remarks.len(), 3, "one for each topic");
    let mut settings = KafkaSettings::clone(&stage.settings);
    settings.shards = 2;
    let refused = stage.runtime.block_on(topics::prepare(&Arc::new(settings), &stage.status));
    assert!(refused.is_err_and(|fault| fault.to_string().contains("has 1 partitions")));
    let mut settings = KafkaSettings::clone(&stage.settings);
    settings.source_topic = "nobody-made-it".into();
    let refused = stage.runtime.block_on(topics::prepare(&Arc::new(settings), &stage.status));
    assert!(refused.is_err_and(|fault| fault.to_string().contains("does not exist")));
}
