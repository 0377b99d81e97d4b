//! The upstream producer, and who should be on each list: folded from what was produced, without a line of the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fastrand::Rng;
use listkeeper::{
    codec::{
        SchemaId,
        writer::{EventWriter, WrittenEvent, WrittenProfile},
    },
    model::{event::ChangeKind, time::UnixMillis},
};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};

use crate::rig::stage::PARTITIONS;

/// The segments; no export has the last.
pub const SEGMENTS: [&str; 4] = ["gold", "silver", "bronze", "nobody"];
/// A first name that is found nowhere else: it must not be found in a log.
pub const CANARY: &str = "Quetzalcoatl";
const FLUSH: Duration = Duration::from_secs(60);

/// What one record said.
#[derive(Debug, Clone)]
struct Said {
    profile: u32,
    change: ChangeKind,
    segment: Option<&'static str>,
    /// The address; none where the event has no profile.
    address: Option<String>,
    erased: bool,
}

/// An idempotent producer, and all that it has said.
pub struct Stream {
    producer: ThreadedProducer<DefaultProducerContext>,
    writer: EventWriter,
    topic: String,
    rng: Rng,
    profiles: u32,
    moves: bool,
    versions: BTreeMap<u32, u32>,
    said: Vec<Said>,
    /// Records in each partition.
    records: BTreeMap<i32, i64>,
    /// Keys of the records that nobody can read.
    undecodable: BTreeSet<Vec<u8>>,
}

impl Stream {
    /// A stream into a topic of [`PARTITIONS`] partitions, decided by the seed; with `moves` some profiles get another
    /// address.
    pub fn new(brokers: &str, topic: &str, schema: u32, seed: u64, profiles: u32, moves: bool) -> Self {
        let mut settings = ClientConfig::new();
        // In order and once, also through a broker that dies.
        settings.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("linger.ms", "5");
        Self {
            producer: settings.create().expect("a producer"),
            writer: EventWriter::new(Some(SchemaId(schema))),
            topic: topic.to_owned(),
            rng: Rng::with_seed(seed),
            profiles,
            moves,
            versions: BTreeMap::new(),
            said: Vec::new(),
            records: BTreeMap::new(),
            undecodable: BTreeSet::new(),
        }
    }

    /// Says something.
    pub fn next(&mut self) {
        let profile = self.rng.u32(0..self.profiles);
        match self.rng.u8(0..100) {
            0 => self.nonsense(),
            1 => self.erase(profile),
            2..60 => self.change(profile, ChangeKind::Entered),
            60..85 => self.change(profile, ChangeKind::Exited),
            _ => self.change(profile, ChangeKind::Updated),
        }
    }

    fn change(&mut self, profile: u32, change: ChangeKind) {
        let segment = match self.rng.u8(0..10) {
            // Concerns every list.
            0 if change == ChangeKind::Updated => None,
            0..4 => Some(SEGMENTS[0]),
            4..6 => Some(SEGMENTS[1]),
            6..9 => Some(SEGMENTS[2]),
            _ => Some(SEGMENTS[3]),
        };
        let version = self.versions.entry(profile).or_default();
        // A few move to another address.
        if self.moves && change != ChangeKind::Exited && self.rng.u8(0..20) == 0 {
            *version += 1;
        }
        let address = (change != ChangeKind::Exited).then(|| address(profile, *version));
        let name = format!("{CANARY}{}", self.rng.u8(0..3));
        let id = key(profile);
        // Not in the form that the vendor compares.
        let written = address.as_deref().map(|address| address.replace("example", "Example"));
        let event = WrittenEvent {
            event_id: "e",
            profile_id: &id,
            segment_id: segment,
            change,
            occurred_at: UnixMillis(1_795_478_400_000),
            profile: written.as_deref().map(|address| WrittenProfile {
                email: Some(address),
                first_name: Some(&name),
                ..WrittenProfile::default()
            }),
        };
        let mut value = Vec::new();
        self.writer.value(&event, &mut value);
        self.send(partition(profile), id.as_bytes(), Some(&value));
        self.said.push(Said { profile, change, segment, address, erased: false });
    }

    fn erase(&mut self, profile: u32) {
        self.send(partition(profile), key(profile).as_bytes(), None);
        self.said.push(Said { profile, change: ChangeKind::Exited, segment: None, address: None, erased: true });
    }

    fn nonsense(&mut self) {
        let key = format!("nonsense-{}", self.undecodable.len()).into_bytes();
        let partition = self.rng.i32(0..PARTITIONS);
        self.send(partition, &key, Some(b"nonsense"));
        self.undecodable.insert(key);
    }

    fn send(&mut self, partition: i32, key: &[u8], value: Option<&[u8]>) {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition).key(key);
        record.payload = value;
        self.producer.send(record).map_err(|(error, _)| error).expect("queued");
        *self.records.entry(partition).or_default() += 1;
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) {
        self.producer.flush(FLUSH).expect("the broker has what was produced");
    }

    /// How many records were written.
    pub fn events(&self) -> i64 {
        self.records.values().sum()
    }

    /// How many of a partition.
    pub fn records(&self, partition: i32) -> i64 {
        self.records.get(&partition).copied().unwrap_or(0)
    }

    /// The keys of what nobody can read.
    pub const fn undecodable(&self) -> &BTreeSet<Vec<u8>> {
        &self.undecodable
    }

    /// The addresses of those who are in at least one of the segments of an export.
    pub fn members(&self, segments: &[&str]) -> BTreeSet<String> {
        let mut profiles: BTreeMap<u32, (BTreeSet<&str>, Option<&String>)> = BTreeMap::new();
        for said in &self.said {
            if said.erased {
                profiles.remove(&said.profile);
                continue;
            }
            let concerns = said.segment.is_none_or(|segment| segments.contains(&segment));
            if !concerns || (said.change != ChangeKind::Entered && !profiles.contains_key(&said.profile)) {
                continue;
            }
            let (of, address) = profiles.entry(said.profile).or_default();
            match said.change {
                ChangeKind::Entered => of.extend(said.segment),
                ChangeKind::Exited => drop(said.segment.map(|segment| of.remove(segment))),
                ChangeKind::Updated => {}
            }
            *address = said.address.as_ref().or(*address);
            if of.is_empty() {
                profiles.remove(&said.profile);
            }
        }
        profiles.into_values().filter_map(|(_, address)| address.cloned()).collect()
    }
}

fn key(profile: u32) -> String {
    format!("p{profile}")
}

/// Some share an address.
fn address(profile: u32, version: u32) -> String {
    let owner = if profile % 50 == 1 { profile - 1 } else { profile };
    format!("p{owner}.{version}@example.com")
}

/// Each profile has its partition for good.
fn partition(profile: u32) -> i32 {
    i32::try_from(profile).expect("small") % PARTITIONS
}
