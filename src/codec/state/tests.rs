use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value, writer::datum::GenericDatumWriter};
use proptest::prelude::*;

use super::*;
use crate::model::{
    ContactId, ListId,
    batch::{Operation, RoundStep, StagedRound},
    position::{NextOffset, PartitionId, Position},
    row::Row,
    state::{
        Applied, BatchChunk, BatchContact, ConnectionRecord, ControlRecord, ExportRecord, Growth, Header, LedgerRecord,
        MemberCut, PartitionHeader, Refused, RoutedExport, Sent, SettledRecord, StagingListRecord, StoppedExport, StoppedSegment,
        SuppressedBucket,
    },
    time::{UnixMillis, UtcDay},
};

fn text() -> impl Strategy<Value = Text> {
    "[a-zA-Z0-9/%@. é]{0,30}".prop_map(Text::from)
}

fn position() -> impl Strategy<Value = Position> {
    (0..100_i32, any::<i64>()).prop_map(|(partition, offset)| Position { partition: PartitionId(partition), offset })
}

fn millis() -> impl Strategy<Value = UnixMillis> {
    any::<i64>().prop_map(UnixMillis)
}

fn row() -> impl Strategy<Value = Row> {
    (proptest::option::of(text()), proptest::option::of(text()), proptest::collection::vec(proptest::option::of(text()), 0..3))
        .prop_map(|(first_name, last_name, custom)| Row { first_name, last_name, custom })
}

fn member() -> impl Strategy<Value = MemberCut> {
    let applied = (text(), any::<u128>(), any::<u64>(), millis()).prop_map(|(address, list, row_hash, at)| Applied {
        address,
        list: ListId::from_u128(list),
        row_hash,
        at,
    });
    let refused =
        (any::<u64>(), text(), position()).prop_map(|(row_hash, reason, position)| Refused { row_hash, reason, position });
    let sent = (any::<u64>(), proptest::collection::vec(millis(), 0..6)).prop_map(|(address_hash, at)| Sent { address_hash, at });
    (
        proptest::collection::vec(text(), 0..4),
        proptest::option::of(text()),
        proptest::option::of(row()),
        proptest::collection::vec(position(), 0..3),
        millis(),
        proptest::collection::vec(applied, 0..3),
        proptest::option::of(refused),
        any::<bool>(),
        proptest::collection::vec(sent, 0..2),
    )
        .prop_map(|(segments, address, row, positions, changed_at, applied, refused, erased, sent)| MemberCut {
            segments,
            address,
            row,
            positions,
            changed_at,
            applied,
            refused,
            erased,
            sent,
        })
}

fn header() -> impl Strategy<Value = Header> {
    let settled =
        (any::<i64>(), millis(), any::<u64>()).prop_map(|(offset, timestamp, hash)| SettledRecord { offset, timestamp, hash });
    let partition = (position(), proptest::option::of(settled)).prop_map(|(at, last_settled)| PartitionHeader {
        next: NextOffset { partition: at.partition, offset: at.offset },
        last_settled,
    });
    let routed = (text(), text(), text(), any::<u64>(), proptest::collection::vec(text(), 0..3)).prop_map(
        |(export, connection, list, mapping_hash, segments)| RoutedExport { export, connection, list, mapping_hash, segments },
    );
    let next = || position().prop_map(|at| NextOffset { partition: at.partition, offset: at.offset });
    let segment = (text(), proptest::collection::vec(next(), 0..3)).prop_map(|(segment, at)| StoppedSegment { segment, at });
    let stopped = (text(), text(), text(), proptest::collection::vec(segment, 0..3))
        .prop_map(|(export, connection, list, segments)| StoppedExport { export, connection, list, segments });
    let added = proptest::collection::vec((0..100_i32).prop_map(PartitionId), 0..3);
    let growth = (added, proptest::collection::vec(next(), 0..3)).prop_map(|(added, ends)| Growth { added, ends });
    (
        millis(),
        any::<bool>(),
        proptest::collection::vec(partition, 0..3),
        proptest::collection::vec(routed, 0..3),
        proptest::collection::vec(stopped, 0..3),
        proptest::collection::vec(growth, 0..3),
    )
        .prop_map(|(written_at, ended, partitions, routed, stopped, grown)| Header {
            format: 1,
            written_at,
            ended,
            partitions,
            routed,
            stopped,
            grown,
        })
}

fn batch() -> impl Strategy<Value = BatchChunk> {
    let contact =
        (text(), text(), proptest::option::of(any::<u128>()), position()).prop_map(|(profile, address, id, position)| {
            BatchContact { profile, address, contact_id: id.map(ContactId::from_u128), position }
        });
    let step = prop_oneof![
        Just(RoundStep::Import),
        Just(RoundStep::RemoveBoth),
        Just(RoundStep::RemoveTarget),
        Just(RoundStep::Empty),
        Just(RoundStep::RemoveAhead),
    ];
    let round = (any::<u128>(), step).prop_map(|(list, step)| StagedRound { list: ListId::from_u128(list), step });
    let round = proptest::option::of(round);
    let rows = proptest::collection::vec(contact, 0..4);
    (any::<bool>(), text(), any::<u128>(), millis(), 0..9_u32, any::<bool>(), rows, (text(), round, any::<bool>())).prop_map(
        |(import, export, list, opened_at, chunks, given_up, rows, (connection, round, deletes))| BatchChunk {
            operation: if import { Operation::Import } else { Operation::Remove },
            export,
            list: ListId::from_u128(list),
            opened_at,
            chunks,
            given_up,
            rows,
            connection,
            round,
            deletes,
        },
    )
}

fn change() -> impl Strategy<Value = StateChange> {
    let ledger = (0..99_999_i64, 0..100_000_u32, 0..100_000_u32).prop_map(|(day, calls, calls_next_day)| LedgerRecord {
        day: UtcDay(day),
        calls,
        calls_next_day,
    });
    let minutes = || proptest::collection::vec((any::<i64>(), 0..u64::from(u32::MAX)), 0..4);
    let control = (proptest::option::of(millis()), any::<bool>(), 0..u64::from(u32::MAX))
        .prop_map(|(started_at, paused, approved_removals)| ControlRecord { started_at, paused, approved_removals });
    let list = proptest::option::of(any::<u128>());
    let existing = (any::<bool>(), proptest::option::of(millis()), any::<bool>());
    let arrivals = (0..u64::from(u32::MAX), 0..u64::from(u32::MAX));
    let export = (list, (minutes(), minutes()), existing, control, arrivals).prop_map(
        |(list, (rows_by_minute, removed_by_minute), (existing_read, existing_from, existing_adopted), control, arrivals)| {
            ExportRecord {
                list: list.map(ListId::from_u128),
                rows_by_minute,
                existing_read,
                existing_from,
                control,
                existing_adopted,
                removed_by_minute,
                arrivals_per_hour: arrivals.into(),
            }
        },
    );
    let staging = (any::<u128>(), any::<u8>(), any::<bool>()).prop_map(|(list, number, condemned)| StagingListRecord {
        list: ListId::from_u128(list),
        number,
        condemned,
    });
    let told = || proptest::option::of(any::<bool>());
    let times = (0..3_600_000_u64, 0..9_000_u64);
    let staging_lists = proptest::collection::vec(staging, 0..3);
    let learned = (told(), times, told());
    let connection = (proptest::option::of(millis()), learned, staging_lists, minutes()).prop_map(
        |(suppressed_read_at, learned, staging_lists, adds_by_minute)| {
            let (names_echoed, (activity_start_ms, activity_row_us), removes_from_source) = learned;
            ConnectionRecord {
                suppressed_read_at,
                names_echoed,
                activity_start_ms,
                activity_row_us,
                removes_from_source,
                staging_lists,
                adds_by_minute,
            }
        },
    );
    let suppressed = proptest::collection::vec((any::<u64>(), millis()), 0..4).prop_map(|contacts| SuppressedBucket { contacts });
    prop_oneof![
        header().prop_map(|value| (StateKey::Header, StateValue::Header(value))),
        (text(), text(), member())
            .prop_map(|(export, profile, value)| (StateKey::Member { export, profile }, StateValue::Member(value))),
        (text(), any::<u32>(), batch())
            .prop_map(|(name, chunk, value)| (StateKey::Batch { name: BatchName(name), chunk }, StateValue::Batch(value))),
        (any::<u64>(), ledger)
            .prop_map(|(hash, value)| (StateKey::Ledger { application: ClientIdHash(hash) }, StateValue::Ledger(value))),
        (text(), export).prop_map(|(export, value)| (StateKey::Export { export }, StateValue::Export(value))),
        (text(), any::<u32>(), proptest::collection::vec(any::<u64>(), 0..9))
            .prop_map(|(export, bucket, hashes)| (StateKey::Protected { export, bucket }, StateValue::Protected(hashes))),
        (text(), connection).prop_map(|(connection, value)| (StateKey::Connection { connection }, StateValue::Connection(value))),
        (text(), any::<u8>(), suppressed)
            .prop_map(|(connection, bucket, value)| (StateKey::Suppressed { connection, bucket }, StateValue::Suppressed(value))),
    ]
    .prop_map(|(key, value)| StateChange { key, value: Some(value) })
}

fn schema(kind: &str) -> Schema {
    let text = match kind {
        "header" => include_str!("../../../schemas/state/header.avsc"),
        "member" => include_str!("../../../schemas/state/member.avsc"),
        "batch" => include_str!("../../../schemas/state/batch.avsc"),
        "ledger" => include_str!("../../../schemas/state/ledger.avsc"),
        "export" => include_str!("../../../schemas/state/export.avsc"),
        "protected" => include_str!("../../../schemas/state/protected.avsc"),
        "connection" => include_str!("../../../schemas/state/connection.avsc"),
        "suppressed" => include_str!("../../../schemas/state/suppressed.avsc"),
        other => panic!("no schema of {other}"),
    };
    Schema::parse_str(text).unwrap()
}

fn encode(change: &StateChange) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::new();
    encode_value(change.value.as_ref().unwrap(), &mut value);
    (encode_key(&change.key), value)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(change in change()) {
        let (key, value) = encode(&change);
        prop_assert_eq!(decode(&key, Some(&value)), Ok(change));
    }

    /// The schemas in the repository are what is written, to the last byte, and the other way round.
    #[test]
    fn the_published_schemas_read_and_write_the_same_bytes(change in change()) {
        let (_, value) = encode(&change);
        let schema = schema(kind(&change.key));
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let mut datum = &value[1..];
        let read: Value = reader.read_value(&mut datum).unwrap();
        prop_assert!(datum.is_empty());
        let written = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(read).unwrap();
        prop_assert_eq!(decode(&encode_key(&change.key), Some(&[&[1], written.as_slice()].concat())), Ok(change));
    }

    /// A newer version appends fields; what this version knows of them is still read.
    #[test]
    fn fields_of_a_newer_version_are_left_unread(change in change(), more in proptest::collection::vec(any::<u8>(), 0..20)) {
        let (key, mut value) = encode(&change);
        value[0] = 2;
        value.extend(more);
        prop_assert_eq!(decode(&key, Some(&value)), Ok(change));
    }

    /// A version before wrote no such field: its default is read.
    #[test]
    fn a_header_of_a_version_before_is_read(header in header(), fields_less in 1..=2) {
        let header = Header { stopped: Vec::new(), grown: Vec::new(), ..header };
        let (key, mut value) = encode(&StateChange { key: StateKey::Header, value: Some(StateValue::Header(header.clone())) });
        for _ in 0..fields_less {
            value.pop();
        }
        prop_assert_eq!(decode(&key, Some(&value)).map(|change| change.value), Ok(Some(StateValue::Header(header))));
    }

    #[test]
    fn records_of_the_version_before_are_read(batch in batch(), member in member(), read_at in proptest::option::of(millis())) {
        let batch = BatchChunk { round: None, deletes: false, ..batch };
        let member = MemberCut { sent: Vec::new(), ..member };
        let connection = ConnectionRecord { suppressed_read_at: read_at, names_echoed: Some(true), ..ConnectionRecord::default() };
        for (key, value, appended_bytes) in [
            (StateKey::Member { export: "e".into(), profile: "p".into() }, StateValue::Member(member), 1),
            (StateKey::Batch { name: BatchName("b".into()), chunk: 0 }, StateValue::Batch(batch), 3),
            (StateKey::Connection { connection: "c".into() }, StateValue::Connection(connection), 2),
        ] {
            let (key, mut bytes) = encode(&StateChange { key, value: Some(value.clone()) });
            bytes.truncate(bytes.len() - appended_bytes);
            prop_assert_eq!(decode(&key, Some(&bytes)).map(|change| change.value), Ok(Some(value)));
        }
    }

    /// Orders are fields that the version before does not know: it reads what is before them, as this one reads what is
    /// before those of a version to come; and what that one wrote has no orders.
    #[test]
    fn an_export_of_the_version_before_has_no_orders(list in proptest::option::of(any::<u128>()), read in any::<bool>()) {
        let record = ExportRecord { list: list.map(ListId::from_u128), existing_read: read, ..ExportRecord::default() };
        let value = StateValue::Export(record);
        let (key, mut bytes) = encode(&StateChange { key: StateKey::Export { export: "e".into() }, value: Some(value.clone()) });
        bytes.truncate(bytes.len() - 5);
        prop_assert_eq!(decode(&key, Some(&bytes)).map(|change| change.value), Ok(Some(value)));
    }

    #[test]
    fn damaged_records_are_faults_never_panics(change in change(), at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<prop::sample::Index>()) {
        let (key, mut value) = encode(&change);
        let index = at.index(value.len());
        value[index] ^= flip;
        drop(decode(&key, Some(&value)));
        drop(decode(&key, Some(&value[..cut.index(value.len())])));
        drop(decode(&value, None));
    }
}

proptest! {
    /// Every kind of key with bytes at random behind the version, hostile lengths and counts among them.
    #[test]
    fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..200), key in proptest::collection::vec(any::<u8>(), 0..40)) {
        for kind in
            ["header", "member/e/p", "batch/b/0", "ledger/0f", "export/e", "protected/e/0", "connection/c", "suppressed/c/0"]
        {
            drop(decode(kind.as_bytes(), Some(&value)));
            drop(decode(kind.as_bytes(), Some(&[&[1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], value.as_slice()].concat())));
        }
        drop(decode(&key, Some(&value)));
    }
}

#[test]
fn a_key_of_a_newer_kind_says_so() {
    assert_eq!(decode(b"suppression/1", None), Err(StateFault::Kind("suppression".to_owned())));
    assert_eq!(decode(b"\xff", None), Err(StateFault::Key));
    assert_eq!(decode(b"member/only", None), Err(StateFault::Key));
}
