use proptest::prelude::*;

use super::*;
use crate::codec::writer::{EventWriter, SEGMENT_MEMBERSHIP_CHANGED, WrittenEvent, WrittenProfile};

const ID: SchemaId = SchemaId(7);

fn paths() -> FieldPaths {
    let mapped = ["profile.email", "profile.first_name", "profile.attributes.tier", "profile.absent"];
    FieldPaths { mapped: mapped.into_iter().map(Text::from).collect(), ..FieldPaths::default() }
}

fn decoder() -> EventDecoder {
    let mut decoder = EventDecoder::new(paths(), EventFormat::AvroRegistry).unwrap();
    decoder.add_schema(ID, SEGMENT_MEMBERSHIP_CHANGED, &[]).unwrap();
    decoder
}

fn written(id: Option<SchemaId>, segment_id: Option<&str>, change: ChangeKind, profile: bool) -> Vec<u8> {
    let attributes = [("tier", "gold")];
    let profile = profile.then_some(WrittenProfile {
        email: Some("ana@example.com"),
        first_name: None,
        last_name: Some("Li"),
        attributes: &attributes,
    });
    let event = WrittenEvent { event_id: "e1", profile_id: "p1", segment_id, change, occurred_at: UnixMillis(1_000), profile };
    let mut out = Vec::new();
    EventWriter::new(id).value(&event, &mut out);
    out
}

fn event(decoded: Result<Decoded, Fault>) -> SegmentEvent {
    match decoded {
        Ok(Decoded::Content(RecordContent::Event(event))) => event,
        other => panic!("{other:?}"),
    }
}

fn fault(decoded: Result<Decoded, Fault>) -> DecodeFault {
    decoded.expect_err("a fault").kind
}

#[test]
fn the_published_layout_is_read() {
    let value = written(Some(ID), Some("gold"), ChangeKind::Entered, true);
    let event = event(decoder().decode(Some(b"p1"), Some(&value)));
    assert_eq!((event.profile_id.as_str(), event.segment_id.as_deref(), event.change), ("p1", Some("gold"), ChangeKind::Entered));
    assert_eq!(event.occurred_at, Some(UnixMillis(1_000)));
    assert_eq!(*event.values, [Some("ana@example.com".into()), None, Some("gold".into()), None]);
}

#[test]
fn a_null_profile_has_no_values_and_a_null_value_erases() {
    let value = written(Some(ID), Some("gold"), ChangeKind::Exited, false);
    assert_eq!(*event(decoder().decode(Some(b"p1"), Some(&value))).values, [None, None, None, None]);
    let erasure = RecordContent::Erasure { profile_id: "p1".into() };
    assert_eq!(decoder().decode(Some(b"p1"), None), Ok(Decoded::Content(erasure.clone())));
    assert_eq!(decoder().decode(Some(b"\0\0\0\0\x09\x04p1"), None), Ok(Decoded::Content(erasure)));
}

#[test]
fn what_cannot_be_understood_says_why() {
    let good = written(Some(ID), Some("gold"), ChangeKind::Entered, true);
    let no_segment = written(Some(ID), None, ChangeKind::Exited, true);
    let unknown = written(Some(SchemaId(8)), Some("gold"), ChangeKind::Entered, true);
    let large = vec![0; VALUE_BYTES_MAX + 1];
    let mut decoder = decoder();
    assert_eq!(decoder.decode(None, Some(&unknown)), Ok(Decoded::NeedsSchema(SchemaId(8))));
    decoder.schema_unknown(SchemaId(8));
    for (key, value, expected) in [
        (None, None, DecodeFault::NoKey),
        (Some(&b"p2"[..]), Some(good.as_slice()), DecodeFault::KeyMismatch),
        (Some(b"\xff"), Some(&good), DecodeFault::Malformed),
        (None, Some(&no_segment), DecodeFault::MissingField),
        (None, Some(&unknown), DecodeFault::UnknownSchema),
        (None, Some(&good[..good.len() - 1]), DecodeFault::Malformed),
        (None, Some(b"{}"), DecodeFault::WireFormat),
        (None, Some(&large), DecodeFault::TooLarge),
    ] {
        assert_eq!(fault(decoder.decode(key, value)), expected);
    }
}

#[test]
fn a_producer_keeps_its_own_layout() {
    let schema = r#"{"type":"record","name":"Change","fields":[
        {"name":"customer","type":{"type":"record","name":"Customer","fields":[{"name":"id","type":"long"}]}},
        {"name":"segment","type":["null",{"type":"record","name":"Segment","fields":[{"name":"key","type":"string"}]}]},
        {"name":"op","type":"string"},
        {"name":"before","type":["null","Customer"],"default":null}]}"#;
    let paths = FieldPaths {
        profile_id: "customer.id".into(),
        segment_id: "segment.key".into(),
        change: "op".into(),
        occurred_at: Some("ts".into()),
        changes: crate::codec::ChangeNames { entered: "ADD".into(), exited: "DEL".into(), updated: "UPD".into() },
        mapped: vec!["before.id".into()],
    };
    let mut decoder = EventDecoder::new(paths.clone(), EventFormat::AvroFile { schema: schema.to_owned() }).unwrap();
    let event = event(decoder.decode(None, Some(b"\x0e\x02\x02g\x06ADD\x02\x06")));
    assert_eq!((event.profile_id.as_str(), event.segment_id.as_deref(), event.change), ("7", Some("g"), ChangeKind::Entered));
    assert_eq!(*event.values, [Some("3".into())]);
    assert_eq!(fault(decoder.decode(None, Some(b"\x0e\x02\x02g\x06XXX\x00"))), DecodeFault::UnknownChange);
    let mut registry = EventDecoder::new(paths, EventFormat::AvroRegistry).unwrap();
    let refused = registry.add_schema(ID, SEGMENT_MEMBERSHIP_CHANGED, &[]);
    assert_eq!(refused, Err(SchemaFault::NoField("customer.id".to_owned())));
    assert_eq!(
        fault(registry.decode(None, Some(&written(Some(ID), None, ChangeKind::Updated, true)))),
        DecodeFault::UnusableSchema
    );
}

#[test]
fn json_has_the_same_paths() {
    let mut decoder = EventDecoder::new(paths(), EventFormat::Json).unwrap();
    let value = br#"{"profile_id":17,"segment_id":"gold","change":"UPDATED","occurred_at":"1970-01-01T00:00:01Z","profile":{"email":"a@example.com","attributes":{"tier":1}}}"#;
    let event = event(decoder.decode(Some(b"17"), Some(value)));
    assert_eq!((event.profile_id.as_str(), event.occurred_at), ("17", Some(UnixMillis(1_000))));
    assert_eq!(*event.values, [Some("a@example.com".into()), None, Some("1".into()), None]);
    assert_eq!(fault(decoder.decode(None, Some(b"[]"))), DecodeFault::Malformed);
    assert_eq!(fault(decoder.decode(None, Some(b"{\"profile_id\":\"p\"}"))), DecodeFault::MissingField);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)), value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut registry = decoder();
        let mut json = EventDecoder::new(paths(), EventFormat::Json).unwrap();
        let framed = [&[0, 0, 0, 0, 7], value.as_slice()].concat();
        drop(registry.decode(key.as_deref(), Some(&framed)));
        drop(registry.decode(key.as_deref(), Some(&value)));
        drop(json.decode(key.as_deref(), Some(&value)));
    }

    #[test]
    fn a_damaged_record_is_a_fault_or_another_event(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut value = written(Some(ID), Some("gold"), ChangeKind::Entered, true);
        let index = at.index(value.len());
        value[index] ^= flip;
        drop(decoder().decode(Some(b"p1"), Some(&value)));
    }
}
