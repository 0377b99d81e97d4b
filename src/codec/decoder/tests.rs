use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
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

fn datum(schema: &str, value: Value) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

fn record(fields: Vec<(&str, Value)>) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn plain(schema: &str, paths: FieldPaths) -> EventDecoder {
    EventDecoder::new(paths, EventFormat::AvroFile { schema: schema.to_owned() }).unwrap()
}

/// An event of four fields, with the schemas of two of them as they are given.
fn layout(change: &str, occurred_at: &str) -> String {
    format!(
        r#"{{"type":"record","name":"E","namespace":"n","fields":[{{"name":"profile_id","type":"string"}},
        {{"name":"segment_id","type":"string"}},{{"name":"change","type":{change}}},{{"name":"occurred_at","type":{occurred_at}}}]}}"#
    )
}

fn with(change: Value, occurred_at: Value) -> Value {
    record(vec![
        ("profile_id", Value::String("p1".to_owned())),
        ("segment_id", Value::String("gold".to_owned())),
        ("change", change),
        ("occurred_at", occurred_at),
    ])
}

#[test]
fn the_time_of_a_change_is_read_whatever_its_type() {
    let some = |value| Value::Union(1, Box::new(value));
    for (schema, value, expected_ms) in [
        (
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            Value::TimestampMillis(1_700_000_000_123),
            Some(1_700_000_000_123),
        ),
        (
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            Value::TimestampMicros(1_700_000_000_123_999),
            Some(1_700_000_000_123),
        ),
        (r#"{"type":"long","logicalType":"timestamp-micros"}"#, Value::TimestampMicros(-1), Some(-1)),
        (
            r#"{"type":"long","logicalType":"timestamp-nanos"}"#,
            Value::TimestampNanos(1_700_000_000_123_999_999),
            Some(1_700_000_000_123),
        ),
        (r#"{"type":"long","logicalType":"local-timestamp-millis"}"#, Value::LocalTimestampMillis(5), Some(5)),
        (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, Value::LocalTimestampMicros(5_000), Some(5)),
        (r#"{"type":"int","logicalType":"date"}"#, Value::Date(2), Some(172_800_000)),
        (r#""long""#, Value::Long(7), Some(7)),
        (r#""string""#, Value::String("1970-01-01T00:00:01.5Z".to_owned()), Some(1_500)),
        (r#""string""#, Value::String("1970-01-01T02:00:00+02:00".to_owned()), Some(0)),
        (r#""string""#, Value::String("1970-01-03".to_owned()), Some(172_800_000)),
        (r#""string""#, Value::String("yesterday".to_owned()), None),
        (r#"["null",{"type":"long","logicalType":"timestamp-millis"}]"#, some(Value::TimestampMillis(9)), Some(9)),
        (r#"["null","string"]"#, Value::Union(0, Box::new(Value::Null)), None),
        (r#""boolean""#, Value::Boolean(true), None),
    ] {
        let schema = layout(r#""string""#, schema);
        let bytes = datum(&schema, with(Value::String("ENTERED".to_owned()), value));
        let event = event(plain(&schema, FieldPaths::default()).decode(Some(b"p1"), Some(&bytes)));
        assert_eq!(event.occurred_at, expected_ms.map(UnixMillis), "{schema}");
    }
}

#[test]
fn the_change_is_an_enum_or_a_text_also_where_it_may_be_null() {
    let symbols = r#"{"type":"enum","name":"C","symbols":["ENTERED","EXITED","UPDATED"]}"#;
    let some = |value| Value::Union(1, Box::new(value));
    for (schema, value, expected) in [
        (symbols.to_owned(), Value::Enum(1, "EXITED".to_owned()), Ok(ChangeKind::Exited)),
        (r#""string""#.to_owned(), Value::String("UPDATED".to_owned()), Ok(ChangeKind::Updated)),
        (format!(r#"["null",{symbols}]"#), some(Value::Enum(0, "ENTERED".to_owned())), Ok(ChangeKind::Entered)),
        (r#"["null","string"]"#.to_owned(), some(Value::String("EXITED".to_owned())), Ok(ChangeKind::Exited)),
        (r#"["null","string"]"#.to_owned(), Value::Union(0, Box::new(Value::Null)), Err(DecodeFault::MissingField)),
        (r#""string""#.to_owned(), Value::String("entered".to_owned()), Err(DecodeFault::UnknownChange)),
        (r#""int""#.to_owned(), Value::Int(1), Err(DecodeFault::UnknownChange)),
    ] {
        let schema = layout(&schema, r#""long""#);
        let bytes = datum(&schema, with(value, Value::Long(0)));
        let decoded = plain(&schema, FieldPaths::default()).decode(None, Some(&bytes));
        assert_eq!(decoded.map(|decoded| event(Ok(decoded)).change).map_err(|fault| fault.kind), expected, "{schema}");
    }
}

#[test]
fn mapped_values_are_text_whatever_their_type() {
    let uuid = uuid::Uuid::from_u128(7);
    for (schema, value, expected) in [
        (r#""string""#, Value::String("gold".to_owned()), Some("gold")),
        (r#""int""#, Value::Int(-3), Some("-3")),
        (r#""long""#, Value::Long(1 << 40), Some("1099511627776")),
        (r#""boolean""#, Value::Boolean(true), Some("true")),
        (r#""double""#, Value::Double(1.5), Some("1.5")),
        (r#""float""#, Value::Float(0.25), Some("0.25")),
        (r#"{"type":"enum","name":"T","symbols":["A","B"]}"#, Value::Enum(1, "B".to_owned()), Some("B")),
        (r#"{"type":"string","logicalType":"uuid"}"#, Value::Uuid(uuid), Some("00000000-0000-0000-0000-000000000007")),
        (r#"{"type":"int","logicalType":"date"}"#, Value::Date(20_777), Some("2026-11-20")),
        (r#"{"type":"long","logicalType":"timestamp-millis"}"#, Value::TimestampMillis(1_000), Some("1970-01-01T00:00:01Z")),
        (r#"{"type":"long","logicalType":"timestamp-micros"}"#, Value::TimestampMicros(i64::MAX), None),
        (r#""bytes""#, Value::Bytes(vec![1]), None),
        (r#"{"type":"array","items":"string"}"#, Value::Array(Vec::new()), None),
    ] {
        let schema = layout(r#""string""#, schema);
        let bytes = datum(&schema, with(Value::String("ENTERED".to_owned()), value));
        // The field in the fourth place, mapped.
        let paths = FieldPaths { occurred_at: None, mapped: vec!["occurred_at".into()], ..FieldPaths::default() };
        assert_eq!(event(plain(&schema, paths).decode(None, Some(&bytes))).values[0].as_deref(), expected, "{schema}");
    }
}

/// A union of records of different kinds: each has its own way to a path, or none.
#[test]
fn each_variant_of_a_union_resolves_its_own_paths() {
    let schema = r#"{"type":"record","name":"E","namespace":"n","fields":[
        {"name":"profile_id","type":"string"},{"name":"segment_id","type":"string"},{"name":"change","type":"string"},
        {"name":"who","type":["null",
            {"type":"record","name":"Person","fields":[{"name":"age","type":"int"},{"name":"email","type":["null","string"]}]},
            {"type":"record","name":"Firm","fields":[{"name":"email","type":"string"},{"name":"contact","type":["null","Person"]}]},
            {"type":"map","values":["null","string",{"type":"record","name":"Mail","fields":[{"name":"address","type":"string"}]}]},
            "string"]}]}"#;
    let mapped = ["who.email", "who.contact.email", "who.age", "who.email.address"];
    let paths = FieldPaths { occurred_at: None, mapped: mapped.into_iter().map(Text::from).collect(), ..FieldPaths::default() };
    let mut decoder = plain(schema, paths);
    let text = |text: &str| Value::String(text.to_owned());
    let some = |variant, value| Value::Union(variant, Box::new(value));
    let person = |email: &str| record(vec![("age", Value::Int(7)), ("email", some(1, text(email)))]);
    let firm = record(vec![("email", text("f@x.com")), ("contact", some(1, person("c@x.com")))]);
    let map = |entry: Value| Value::Map(std::iter::once(("email".to_owned(), entry)).collect());
    for (who, expected) in [
        (some(1, person("p@x.com")), [Some("p@x.com"), None, Some("7"), None]),
        (some(2, firm), [Some("f@x.com"), Some("c@x.com"), None, None]),
        (some(3, map(some(1, text("m@x.com")))), [Some("m@x.com"), None, None, None]),
        (some(3, map(some(2, record(vec![("address", text("a@x.com"))])))), [None, None, None, Some("a@x.com")]),
        (some(3, Value::Map(std::iter::empty().collect())), [None; 4]),
        (some(4, text("no record")), [None; 4]),
        (Value::Union(0, Box::new(Value::Null)), [None; 4]),
    ] {
        let bytes = datum(
            schema,
            record(vec![
                ("profile_id", text("p1")),
                ("segment_id", text("s")),
                ("change", text("ENTERED")),
                ("who", who.clone()),
            ]),
        );
        let event = event(decoder.decode(None, Some(&bytes)));
        let values: Vec<Option<&str>> = event.values.iter().map(|value| value.as_deref()).collect();
        assert_eq!(values, expected, "{who:?}");
    }
}

#[test]
fn keys_are_text_or_avro_strings_in_the_wire_format() {
    let value = written(Some(ID), Some("gold"), ChangeKind::Entered, true);
    for (key, expected) in [
        (Some(&b"p1"[..]), Ok(())),
        (Some(b"\0\0\0\0\x09\x04p1"), Ok(())),
        (Some(b"\0\0\0\0\x09\x04p2"), Err(DecodeFault::KeyMismatch)),
        (Some(b"\0\0\0\0\x09\x06p1"), Err(DecodeFault::KeyMismatch)),
        (Some(b"\0\0\0\0\x09\x04\xff\xff"), Err(DecodeFault::Malformed)),
        (Some(b"\"p1\""), Err(DecodeFault::KeyMismatch)),
        (Some(b""), Err(DecodeFault::KeyMismatch)),
        (None, Ok(())),
    ] {
        let decoded = decoder().decode(key, Some(&value));
        assert_eq!(decoded.map(drop).map_err(|fault| fault.kind), expected, "{key:?}");
    }
    assert_eq!(fault(decoder().decode(Some(b""), None)), DecodeFault::NoKey);
    assert_eq!(fault(decoder().decode(Some(b"\0\0\0\0\x09\0"), None)), DecodeFault::NoKey);
}

/// A later version of the published schema adds a field with a default; an earlier one lacks an optional one.
#[test]
fn writers_schemas_evolve() {
    let newer = SEGMENT_MEMBERSHIP_CHANGED
        .replace(r#"{ "name": "event_id","#, r#"{ "name": "source_system", "type": "string" }, { "name": "event_id","#);
    let older =
        SEGMENT_MEMBERSHIP_CHANGED.replace(r#"{ "name": "first_name", "type": ["null", "string"], "default": null },"#, "");
    assert!(newer != SEGMENT_MEMBERSHIP_CHANGED && older != SEGMENT_MEMBERSHIP_CHANGED);
    let mut decoder = decoder();
    decoder.add_schema(SchemaId(8), &newer, &[]).unwrap();
    decoder.add_schema(SchemaId(9), &older, &[]).unwrap();
    let value = written(Some(ID), Some("gold"), ChangeKind::Entered, true);
    let framed = |id: u8, datum: &[u8]| [&[0, 0, 0, 0, id], datum].concat();
    let newer = framed(8, &[b"\x06crm", &value[5..]].concat());
    // Without the null that stands for the first name, behind the address.
    let at = value.windows(15).position(|window| window == b"ana@example.com").unwrap() + 15;
    let older = framed(9, &[&value[5..at], &value[at + 1..]].concat());
    let expected = event(decoder.decode(Some(b"p1"), Some(&value)));
    assert_eq!(event(decoder.decode(Some(b"p1"), Some(&newer))), expected);
    assert_eq!(event(decoder.decode(Some(b"p1"), Some(&older))), expected);
}

#[test]
fn unknown_ids_drive_out_no_schema_and_are_asked_for_again() {
    let mut decoder = decoder();
    let good = written(Some(ID), Some("gold"), ChangeKind::Entered, true);
    let late = written(Some(SchemaId(8)), Some("gold"), ChangeKind::Entered, true);
    for id in 100..10_000 {
        let value = written(Some(SchemaId(id)), Some("gold"), ChangeKind::Entered, true);
        assert_eq!(decoder.decode(None, Some(&value)), Ok(Decoded::NeedsSchema(SchemaId(id))));
        decoder.schema_unknown(SchemaId(id));
        assert_eq!(fault(decoder.decode(None, Some(&value))), DecodeFault::UnknownSchema);
    }
    event(decoder.decode(None, Some(&good)));
    // Each answer serves for twice as many records as the one before.
    let mut served = Vec::new();
    for _ in 0..4 {
        assert_eq!(decoder.decode(None, Some(&late)), Ok(Decoded::NeedsSchema(SchemaId(8))));
        decoder.schema_unknown(SchemaId(8));
        let answers = std::iter::repeat_with(|| decoder.decode(None, Some(&late)));
        served.push(answers.take_while(Result::is_err).count());
    }
    assert_eq!(served, [100, 200, 400, 800]);
    decoder.schema_unknown(SchemaId(8));
    assert_eq!(fault(decoder.decode(None, Some(&late))), DecodeFault::UnknownSchema);
    decoder.forget_unknown_schemas();
    assert_eq!(decoder.decode(None, Some(&late)), Ok(Decoded::NeedsSchema(SchemaId(8))));
    decoder.schema_unknown(SchemaId(8));
    decoder.add_schema(SchemaId(8), SEGMENT_MEMBERSHIP_CHANGED, &[]).unwrap();
    event(decoder.decode(None, Some(&late)));
    event(decoder.decode(None, Some(&good)));
}

/// A schema that refers to itself, and a datum as deep as it is long.
#[test]
fn a_bottomless_datum_is_a_fault() {
    let schema = r#"{"type":"record","name":"E","fields":[{"name":"profile_id","type":"string"},{"name":"segment_id","type":"string"},
        {"name":"change","type":"string"},{"name":"next","type":["null","E"]}]}"#;
    let paths = FieldPaths { occurred_at: None, mapped: vec!["next.next.profile_id".into()], ..FieldPaths::default() };
    let mut decoder = plain(schema, paths);
    let level = b"\x02p\x02s\x0eENTERED\x02";
    let deep = level.repeat(VALUE_BYTES_MAX / level.len());
    assert_eq!(fault(decoder.decode(None, Some(&deep))), DecodeFault::Malformed);
    let last = b"\x02q\x02s\x0eENTERED\0";
    let three = [&level[..], level, last].concat();
    assert_eq!(event(decoder.decode(None, Some(&three))).values[0].as_deref(), Some("q"));
}

/// Bytes at random, and bytes that begin like an Avro string in the wire format.
fn key_bytes() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    prop_oneof![any_bytes(), any_bytes().prop_map(|rest| [&[0, 0, 0, 0, 9], rest.as_slice()].concat())]
}

/// Texts that are JSON as far as they go.
fn json_text() -> impl Strategy<Value = Vec<u8>> {
    let parts =
        ["{", "}", "[", "]", ":", ",", "\"profile_id\"", "\"change\"", "\"ENTERED\"", "1", "-1e999", "null", "\"\\ud800\"", " "];
    proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..30).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(value in json_text(), nested in 0..100_000_usize) {
        let mut json = EventDecoder::new(paths(), EventFormat::Json).unwrap();
        drop(json.decode(None, Some(&value)));
        prop_assert_eq!(fault(json.decode(None, Some(&b"[".repeat(nested)))), DecodeFault::Malformed);
    }

    /// The state records have a test of their own beside them.
    #[test]
    fn no_bytes_make_it_panic(key in proptest::option::of(key_bytes()), value in proptest::collection::vec(any::<u8>(), 0..200)) {
        // As `main` has it: else a hostile length is taken at its word.
        apache_avro::util::max_allocation_bytes(1 << 20);
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
