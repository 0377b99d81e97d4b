//! One Kafka transaction for each commit of the engine: state, dead letters and the source offsets that they cover.
//!
//! Any failure ends the term. Whether a transaction whose answer was lost took place is found out by the next term's
//! `init_transactions` and the state that it reads: nothing here needs to know.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, mpsc as commits},
    thread::JoinHandle,
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, KafkaResult},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc;

use crate::{
    codec::{dead_letter, state},
    engine::output::{Commit, CommitId},
    model::{
        dead_letter::{DeadLetter, LetterOriginal},
        event::RawRecord,
        position::Position,
        time::Mono,
    },
    shell::clock,
};

use super::{
    client::{StageContext, Stop},
    fault::KafkaFault,
    letters,
    settings::{KafkaSettings, TRANSACTION_TIMEOUT_MS},
    status::KafkaStatus,
    term::Term,
};

/// Commits that may wait behind the one under way.
const WAITING_MAX: usize = 2;
const CALL: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS as u64);
/// The header that says why a letter has no value.
const ORIGINAL_GONE: &str = "listkeeper.original";
/// What a letter's own headers and its frame add to a record at most, and the frame of each header.
const ADDED_BYTES: usize = 8 << 10;
const HEADER_BYTES: usize = 16;

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Kafka confirmed it.
    Committed {
        /// Which one.
        commit: CommitId,
        /// Read before the transaction began: the lease to send counts from here.
        began: Mono,
    },
    /// Kafka did not; the term is over.
    Failed(KafkaFault),
}

/// The one writer of a term. Dropped, it finishes the transaction under way and forgets what waits.
#[derive(Debug)]
pub struct Committer {
    stop: Stop,
    commits: Option<commits::SyncSender<Commit>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts writing for a term. After [`CommitAnswer::Failed`] no more answers come.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(term: Term) -> Result<(Self, mpsc::Receiver<CommitAnswer>), KafkaFault> {
        let (commits, waiting) = commits::sync_channel(WAITING_MAX);
        let (answers, receiver) = mpsc::channel(WAITING_MAX + 2);
        let stop = Stop::default();
        let writer = Writer {
            stop: stop.clone(),
            partition: i32::try_from(term.shard).unwrap_or(i32::MAX),
            shard: term.shard,
            settings: term.settings,
            status: term.status,
            producer: term.producer,
            group: term.group,
        };
        let thread = std::thread::Builder::new()
            .name(format!("kafka-commits-{}", term.shard))
            .spawn(move || writer.run(&waiting, &answers))
            .map_err(|error| KafkaFault::thread("starting to commit", &error))?;
        Ok((Self { stop, commits: Some(commits), thread: Some(thread) }, receiver))
    }

    /// Takes a commit; never blocks. Gives it back when too many wait or the term is over.
    ///
    /// # Errors
    /// The commit, untouched.
    pub fn commit(&self, commit: Commit) -> Result<(), Box<Commit>> {
        let Some(commits) = &self.commits else { return Err(Box::new(commit)) };
        commits.try_send(commit).map_err(|error| match error {
            commits::TrySendError::Full(commit) | commits::TrySendError::Disconnected(commit) => Box::new(commit),
        })
    }

    /// Writes what waits, then ends. Blocks for as long as that takes.
    pub fn finish(mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the transactions panicked");
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

struct Writer {
    stop: Stop,
    shard: u32,
    partition: i32,
    settings: Arc<KafkaSettings>,
    status: KafkaStatus,
    producer: ThreadedProducer<StageContext>,
    group: ConsumerGroupMetadata,
}

impl Writer {
    fn run(self, waiting: &commits::Receiver<Commit>, answers: &mpsc::Sender<CommitAnswer>) {
        while let Ok(commit) = waiting.recv() {
            if self.stop.stopped() {
                return;
            }
            let answer = self
                .commit(&commit)
                .map_or_else(CommitAnswer::Failed, |began| CommitAnswer::Committed { commit: commit.commit, began });
            let over = matches!(answer, CommitAnswer::Failed(_));
            if answers.blocking_send(answer).is_err() || over {
                return;
            }
        }
    }

    fn commit(&self, commit: &Commit) -> Result<Mono, KafkaFault> {
        // Before the transaction begins, because its time is short and the lease counts from its beginning.
        let originals = letters::originals(&self.settings, self.shard, &self.status, &commit.letters)?;
        let began = clock::mono();
        self.written(self.producer.begin_transaction(), "beginning a transaction")?;
        let outcome = self.write(commit, &originals, began);
        if let Err(fault) = &outcome {
            tracing::warn!(shard = self.shard, "a transaction did not succeed, so the term ends: {fault}");
        }
        outcome.map(|()| began)
    }

    fn write(&self, commit: &Commit, originals: &BTreeMap<Position, Option<RawRecord>>, began: Mono) -> Result<(), KafkaFault> {
        let mut value = Vec::new();
        for change in &commit.changes {
            let key = state::encode_key(&change.key);
            value.clear();
            if let Some(content) = &change.value {
                state::encode_value(content, &mut value);
            }
            let record = BaseRecord::to(&self.settings.state_topic).partition(self.partition).key(key.as_slice());
            let record = if change.value.is_some() { record.payload(value.as_slice()) } else { record };
            self.send(record, began)?;
        }
        for letter in &commit.letters {
            self.send_letter(letter, originals, began)?;
        }
        let doing = "adding the source offsets to a transaction";
        let mut offsets = TopicPartitionList::with_capacity(commit.offsets.len());
        for next in &commit.offsets {
            let added = offsets.add_partition_offset(&self.settings.source_topic, next.partition.0, Offset::Offset(next.offset));
            added.map_err(|error| KafkaFault::failed(doing, &error))?;
        }
        if offsets.count() > 0 {
            self.written(self.producer.send_offsets_to_transaction(&offsets, &self.group, CALL), doing)?;
        }
        self.written(self.producer.commit_transaction(CALL), "committing a transaction")
    }

    fn send_letter(
        &self,
        letter: &DeadLetter,
        originals: &BTreeMap<Position, Option<RawRecord>>,
        began: Mono,
    ) -> Result<(), KafkaFault> {
        let (letter, missing) = self.with_original(letter, originals);
        let LetterOriginal::Carried(record) = &letter.original else { return Ok(()) };
        let named = dead_letter::headers(&letter, &self.settings.source_topic);
        let mut headers = OwnedHeaders::new_with_capacity(named.len() + 1);
        for (name, value) in &named {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        if let Some(why) = missing {
            headers = headers.insert(Header { key: ORIGINAL_GONE, value: Some(why) });
        }
        let mut out: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.settings.dead_letter_topic).headers(headers);
        out.key = record.key.as_deref();
        out.payload = record.value.as_deref();
        self.send(out, began)
    }

    /// The letter with its record, as far as there is one that a letter can hold, and why it holds no more of it. A
    /// record that only just fits the source is too large with a letter's headers: it must not block all others.
    fn with_original<'a>(
        &self,
        letter: &'a DeadLetter,
        originals: &BTreeMap<Position, Option<RawRecord>>,
    ) -> (Cow<'a, DeadLetter>, Option<&'static str>) {
        let (letter, missing) = match &letter.original {
            LetterOriginal::Carried(_) => (Cow::Borrowed(letter), None),
            LetterOriginal::InSource => {
                let original = originals.get(&letter.position).cloned().flatten();
                let missing = original.is_none().then_some("the source no longer has the record at this position");
                let original = LetterOriginal::Carried(original.unwrap_or_default());
                (Cow::Owned(DeadLetter { original, ..letter.clone() }), missing)
            }
        };
        let LetterOriginal::Carried(record) = &letter.original else { return (letter, missing) };
        let bytes_max = self.settings.message_bytes_max().saturating_sub(ADDED_BYTES + record.headers.len() * HEADER_BYTES);
        if record.size_bytes() <= bytes_max {
            return (letter, missing);
        }
        let without_value = RawRecord { key: record.key.clone(), value: None, headers: record.headers.clone() };
        let left = if without_value.size_bytes() <= bytes_max { without_value } else { RawRecord::default() };
        let original = LetterOriginal::Carried(left);
        (
            Cow::Owned(DeadLetter { original, ..letter.into_owned() }),
            Some("the record is too large for a letter; it lies in the source"),
        )
    }

    /// Queues a record; waits while the queue is full, for as long as the transaction may take.
    fn send<'a>(&self, mut record: BaseRecord<'a, [u8], [u8]>, began: Mono) -> Result<(), KafkaFault> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !full || clock::mono().since_ms(began) > u64::from(TRANSACTION_TIMEOUT_MS) {
                        return self.written(Err(error), "writing state and dead letters");
                    }
                    record = back;
                    self.producer.poll(Duration::from_millis(5));
                }
            }
        }
    }

    /// A result in our words; the failure of a single record is said, where there was one, because it is the cause.
    fn written(&self, result: KafkaResult<()>, doing: &'static str) -> Result<(), KafkaFault> {
        let Err(error) = result else { return Ok(()) };
        let fault = match &error {
            KafkaError::Transaction(inner) if inner.is_fatal() => KafkaFault::Fatal { doing, detail: error.to_string() },
            other => KafkaFault::failed(doing, other),
        };
        match (self.producer.context().take_delivery_failure(), fault) {
            (Some(record), KafkaFault::Failed { doing, detail }) => {
                Err(KafkaFault::Failed { doing, detail: format!("{detail} (a record was not written: {record})") })
            }
            (_, fault) => Err(fault),
        }
    }
}
