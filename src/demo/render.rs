//! Records as bytes: in the published layout, as Avro or JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    codec::{
        SchemaId,
        writer::{EventWriter, WrittenEvent, WrittenProfile},
    },
    model::{event::ChangeKind, time::UnixMillis},
};

use super::{
    person::{self, People},
    workload::{Content, Fields, Record, Undecodable},
};

/// How values are written.
#[derive(Debug, Clone, Copy)]
pub enum Encoding {
    /// Avro: plain datums, or in the wire format with a schema id of a registry.
    Avro(Option<SchemaId>),
    /// JSON objects.
    Json,
}

/// Writes records of one workload, into room that is used again.
#[derive(Debug)]
pub struct Renderer {
    people: People,
    segments: Vec<String>,
    encoding: Encoding,
    occurred_at: UnixMillis,
    run: u64,
    /// The key of the record that was rendered last.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    profile_id: String,
    event_id: String,
    address: String,
}

impl Renderer {
    /// A renderer. Every event says that it occurred at `occurred_at`, and its id names the `seed`.
    #[must_use]
    pub fn new(seed: u64, segments: Vec<String>, encoding: Encoding, occurred_at: UnixMillis) -> Self {
        let text = String::new;
        Self {
            people: People::new(seed),
            segments,
            encoding,
            occurred_at,
            run: seed,
            key: text(),
            value: Vec::new(),
            profile_id: text(),
            event_id: text(),
            address: text(),
        }
    }

    /// Renders a record into [`Self::key`] and [`Self::value`].
    pub fn render(&mut self, record: &Record) {
        person::profile_id(record.profile, &mut self.key);
        self.value.clear();
        let change = match record.content {
            Content::Change(change) => change,
            Content::Undecodable(Undecodable::Empty) => return,
            Content::Undecodable(Undecodable::Noise) => {
                return self.value.extend_from_slice(b"this is no event: somebody's test message");
            }
            Content::Undecodable(kind @ (Undecodable::Truncated | Undecodable::ForeignKey)) => {
                let foreign = kind == Undecodable::ForeignKey;
                let profile = if foreign { record.profile.wrapping_add(1) } else { record.profile };
                self.event(record.event, profile, ChangeKind::Entered, Some(0), Fields::Complete(0));
                if !foreign {
                    self.value.truncate(self.value.len() / 2);
                }
                return;
            }
        };
        self.event(record.event, record.profile, change.kind, change.segment, change.fields);
    }

    fn event(&mut self, number: u64, profile: u32, change: ChangeKind, segment: Option<u8>, fields: Fields) {
        person::profile_id(profile, &mut self.profile_id);
        self.event_id.clear();
        // Writing to a String cannot fail.
        let _ok = write!(self.event_id, "{:x}-{number:09}", self.run);
        let version = match fields {
            Fields::Complete(version) => version,
            Fields::Absent | Fields::WithoutAddress => 0,
        };
        if let Fields::Complete(_) = fields {
            self.people.address(profile, &mut self.address);
            // Lists hold addresses in lower case; not every form that people fill in does.
            if profile.is_multiple_of(50) {
                self.address.make_ascii_uppercase();
            }
        }
        let attributes = [("tier", self.people.tier(profile))];
        let event = WrittenEvent {
            event_id: &self.event_id,
            profile_id: &self.profile_id,
            segment_id: segment.map(|segment| self.segments[usize::from(segment)].as_str()),
            change,
            occurred_at: self.occurred_at,
            profile: (fields != Fields::Absent).then(|| WrittenProfile {
                email: matches!(fields, Fields::Complete(_)).then_some(self.address.as_str()),
                first_name: Some(self.people.first_name(profile)),
                last_name: Some(self.people.last_name(profile, version)),
                attributes: &attributes,
            }),
        };
        match self.encoding {
            Encoding::Avro(id) => EventWriter::new(id).value(&event, &mut self.value),
            Encoding::Json => json(&event, &mut self.value),
        }
    }
}

#[derive(Serialize)]
struct JsonEvent<'a> {
    event_id: &'a str,
    profile_id: &'a str,
    segment_id: Option<&'a str>,
    change: ChangeKind,
    occurred_at: i64,
    profile: Option<JsonProfile<'a>>,
}

#[derive(Serialize)]
struct JsonProfile<'a> {
    email: Option<&'a str>,
    first_name: Option<&'a str>,
    last_name: Option<&'a str>,
    attributes: std::collections::BTreeMap<&'a str, &'a str>,
}

fn json(event: &WrittenEvent<'_>, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(
        out,
        &JsonEvent {
            event_id: event.event_id,
            profile_id: event.profile_id,
            segment_id: event.segment_id,
            change: event.change,
            occurred_at: event.occurred_at.0,
            profile: event.profile.map(|profile| JsonProfile {
                email: profile.email,
                first_name: profile.first_name,
                last_name: profile.last_name,
                attributes: profile.attributes.iter().copied().collect(),
            }),
        },
    );
    if let Err(error) = written {
        unreachable!("texts and numbers, written to memory: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        codec::{Decoded, EventDecoder, EventFormat, FieldPaths, writer::SEGMENT_MEMBERSHIP_CHANGED},
        demo::workload::{Step, Workload, tests::plan},
        model::event::{DecodeFault, RecordContent},
    };

    fn formats() -> [(Encoding, EventDecoder); 3] {
        let paths = || FieldPaths { mapped: vec!["profile.email".into(), "profile.last_name".into()], ..FieldPaths::default() };
        let decoder = |format| EventDecoder::new(paths(), format).expect("a decoder");
        let mut registry = decoder(EventFormat::AvroRegistry);
        registry.add_schema(SchemaId(7), SEGMENT_MEMBERSHIP_CHANGED, &[]).expect("the published schema");
        let file = EventFormat::AvroFile { schema: SEGMENT_MEMBERSHIP_CHANGED.to_owned() };
        [
            (Encoding::Avro(None), decoder(file)),
            (Encoding::Avro(Some(SchemaId(7))), registry),
            (Encoding::Json, decoder(EventFormat::Json)),
        ]
    }

    #[test]
    fn what_is_meant_is_decoded_and_what_is_not_is_refused_in_every_encoding() {
        let plan = plan(400, 11);
        let people = People::new(11);
        for (encoding, mut decoder) in formats() {
            let mut renderer = Renderer::new(11, plan.segments.names.clone(), encoding, UnixMillis(1_700_000_000_000));
            let mut partitions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
            let mut faults = BTreeSet::new();
            for step in Workload::new(plan.clone()) {
                let Step::Record(record) = step else { continue };
                renderer.render(&record);
                partitions.entry(renderer.key.clone()).or_default().insert(person::partition(&renderer.key, 4));
                let decoded = decoder.decode(Some(renderer.key.as_bytes()), Some(&renderer.value));
                match (record.content, decoded) {
                    (Content::Change(change), Ok(Decoded::Content(RecordContent::Event(event)))) => {
                        assert_eq!((event.change, event.profile_id.as_str()), (change.kind, renderer.key.as_str()));
                        let segment = change.segment.map(|segment| plan.segments.names[usize::from(segment)].as_str());
                        assert_eq!(event.segment_id.as_deref(), segment);
                        let mut address = String::new();
                        people.address(record.profile, &mut address);
                        let (email, name) = match change.fields {
                            Fields::Absent => (None, None),
                            Fields::WithoutAddress => (None, Some(people.last_name(record.profile, 0))),
                            Fields::Complete(version) => {
                                (Some(address.as_str()), Some(people.last_name(record.profile, version)))
                            }
                        };
                        assert_eq!(event.values[0].as_deref().map(str::to_ascii_lowercase).as_deref(), email);
                        assert_eq!(event.values[1].as_deref(), name);
                    }
                    (Content::Undecodable(kind), Err(fault)) => {
                        assert_eq!(kind == Undecodable::ForeignKey, fault.kind == DecodeFault::KeyMismatch);
                        faults.insert(kind);
                    }
                    (content, decoded) => panic!("{content:?} was decoded as {decoded:?}"),
                }
            }
            assert_eq!(faults.len(), 4);
            assert!(partitions.values().all(|of| of.len() == 1), "each profile's records are in one partition");
            assert_eq!(partitions.values().flatten().collect::<BTreeSet<_>>().len(), 4, "and all partitions are used");
        }
    }
}
