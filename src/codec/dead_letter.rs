//! A dead letter's headers ⇄ words: Kafka Connect's names (KIP-298), and a few of our own. None holds personal data.

use crate::model::{
    Text,
    dead_letter::{DeadLetter, LetterOriginal, LetterReason, RefusedBy},
    event::RawRecord,
    position::{PartitionId, Position},
};

/// The source topic.
pub const TOPIC: &str = "__connect.errors.topic";
/// The source partition.
pub const PARTITION: &str = "__connect.errors.partition";
/// The offset in it.
pub const OFFSET: &str = "__connect.errors.offset";
/// Always `listkeeper`.
pub const CONNECTOR: &str = "__connect.errors.connector.name";
const CONNECTOR_NAME: &str = "listkeeper";
/// Where it failed: `VALUE_CONVERTER` or `TASK_PUT`, as Connect names its stages.
pub const STAGE: &str = "__connect.errors.stage";
/// The reason, in one word.
pub const CLASS: &str = "__connect.errors.exception.class.name";
/// The reason, for a person.
pub const MESSAGE: &str = "__connect.errors.exception.message";
/// The application that refused it.
pub const APPLICATION: &str = "listkeeper.application";
/// The export that refused it.
pub const EXPORT: &str = "listkeeper.export";

/// The headers of a letter, behind the record's own.
#[must_use]
pub fn headers(letter: &DeadLetter, source_topic: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let stage = match letter.reason {
        LetterReason::Decode(_) => "VALUE_CONVERTER",
        LetterReason::NoAddress | LetterReason::InvalidAddress | LetterReason::RowRefused => "TASK_PUT",
    };
    let mut headers = vec![
        (TOPIC, source_topic.to_owned()),
        (PARTITION, letter.position.partition.0.to_string()),
        (OFFSET, letter.position.offset.to_string()),
        (CONNECTOR, CONNECTOR_NAME.to_owned()),
        (STAGE, stage.to_owned()),
        (CLASS, letter.reason.as_str().to_owned()),
        (MESSAGE, letter.detail.to_string()),
    ];
    if let Some(by) = &letter.refused_by {
        headers.push((APPLICATION, by.application.to_string()));
        headers.push((EXPORT, by.export.to_string()));
    }
    let own = match &letter.original {
        LetterOriginal::Carried(record) => record.headers.as_slice(),
        LetterOriginal::InSource => &[],
    };
    let ours = headers.into_iter().map(|(name, value)| (name.to_owned(), Some(value.into_bytes())));
    own.iter().cloned().chain(ours).collect()
}

/// A record of the dead-letter topic, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadLetter {
    /// The topic that the record came from.
    pub source_topic: Text,
    /// The letter; it carries the record as it was in the source.
    pub letter: DeadLetter,
}

/// Why a record of the dead-letter topic is no letter. It names headers, never what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LetterFault {
    /// A header that every letter has is not there.
    #[error("it is no dead letter: the header {0} is missing")]
    Missing(&'static str),
    /// A header does not hold what its name promises.
    #[error("the header {0} does not hold what a letter of Listkeeper has there")]
    Malformed(&'static str),
    /// Another connector wrote it.
    #[error("another connector than Listkeeper wrote it")]
    Foreign,
}

/// Reads a record of the dead-letter topic back: what [`headers`] wrote, and the record that it was written behind.
///
/// # Errors
/// [`LetterFault`]: it is no letter of Listkeeper's.
pub fn read(record: RawRecord) -> Result<ReadLetter, LetterFault> {
    // A record that was itself a dead letter once has headers of these names of its own: ours begin at the last TOPIC.
    let ours = record.headers.iter().rposition(|(name, _)| name == TOPIC).ok_or(LetterFault::Missing(TOPIC))?;
    let RawRecord { key, value, mut headers } = record;
    let ours = headers.split_off(ours);
    let find = |wanted: &'static str| {
        let held = ours.iter().find(|(name, _)| name == wanted).and_then(|(_, held)| held.as_deref());
        held.map(|held| std::str::from_utf8(held).map_err(|_| LetterFault::Malformed(wanted))).transpose()
    };
    let need = |wanted| find(wanted)?.ok_or(LetterFault::Missing(wanted));
    if need(CONNECTOR)? != CONNECTOR_NAME {
        return Err(LetterFault::Foreign);
    }
    let partition = need(PARTITION)?.parse().map_err(|_| LetterFault::Malformed(PARTITION))?;
    let offset = need(OFFSET)?.parse().map_err(|_| LetterFault::Malformed(OFFSET))?;
    let refused_by = match (find(APPLICATION)?, find(EXPORT)?) {
        (Some(application), Some(export)) => Some(RefusedBy { application: application.into(), export: export.into() }),
        (None, None) => None,
        (None, Some(_)) => return Err(LetterFault::Missing(APPLICATION)),
        (Some(_), None) => return Err(LetterFault::Missing(EXPORT)),
    };
    let letter = DeadLetter {
        position: Position { partition: PartitionId(partition), offset },
        refused_by,
        reason: LetterReason::from_word(need(CLASS)?).ok_or(LetterFault::Malformed(CLASS))?,
        detail: need(MESSAGE)?.into(),
        original: LetterOriginal::Carried(RawRecord { key, value, headers }),
    };
    Ok(ReadLetter { source_topic: need(TOPIC)?.into(), letter })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::event::DecodeFault;

    #[test]
    fn each_header_says_what_its_name_promises() {
        let record = RawRecord { headers: vec![("trace".into(), Some(b"t1".to_vec()))], ..RawRecord::default() };
        let letter = DeadLetter {
            position: Position { partition: PartitionId(3), offset: 41 },
            refused_by: Some(RefusedBy { application: "main".into(), export: "vip".into() }),
            reason: LetterReason::Decode(DecodeFault::UnknownSchema),
            detail: "the schema registry does not know the schema id 7".into(),
            original: LetterOriginal::Carried(record),
        };
        let headers = headers(&letter, "changes");
        let texts: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value.as_deref().unwrap()).unwrap()))
            .collect();
        assert_eq!(
            texts,
            [
                ("trace", "t1"),
                ("__connect.errors.topic", "changes"),
                ("__connect.errors.partition", "3"),
                ("__connect.errors.offset", "41"),
                ("__connect.errors.connector.name", "listkeeper"),
                ("__connect.errors.stage", "VALUE_CONVERTER"),
                ("__connect.errors.exception.class.name", "unknown_schema"),
                ("__connect.errors.exception.message", "the schema registry does not know the schema id 7"),
                ("listkeeper.application", "main"),
                ("listkeeper.export", "vip"),
            ]
        );
    }

    fn written(letter: &DeadLetter, source_topic: &str) -> RawRecord {
        let LetterOriginal::Carried(original) = &letter.original else { panic!("its original is not here") };
        RawRecord { headers: headers(letter, source_topic), ..original.clone() }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..9)
    }

    /// Names of headers, those of letters among them: a record may have been one before.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z.]{0,9}", Just(TOPIC.to_owned()), Just(CLASS.to_owned()), Just(EXPORT.to_owned())]
    }

    fn letter() -> impl Strategy<Value = DeadLetter> {
        let reasons: Vec<LetterReason> = DecodeFault::ALL
            .into_iter()
            .map(LetterReason::Decode)
            .chain([LetterReason::NoAddress, LetterReason::InvalidAddress, LetterReason::RowRefused])
            .collect();
        let by = ("[a-z]{1,9}", "[a-z]{1,9}")
            .prop_map(|(application, export)| RefusedBy { application: application.into(), export: export.into() });
        let own = proptest::collection::vec((name(), proptest::option::of(bytes())), 0..5);
        let record = (proptest::option::of(bytes()), proptest::option::of(bytes()), own)
            .prop_map(|(key, value, headers)| RawRecord { key, value, headers });
        let position =
            (any::<i32>(), any::<i64>()).prop_map(|(partition, offset)| Position { partition: PartitionId(partition), offset });
        (position, proptest::option::of(by), proptest::sample::select(reasons), ".{0,20}", record).prop_map(
            |(position, refused_by, reason, detail, original)| DeadLetter {
                position,
                refused_by,
                reason,
                detail: detail.into(),
                original: LetterOriginal::Carried(original),
            },
        )
    }

    proptest! {
        #[test]
        fn a_letter_is_read_back_as_it_was(letter in letter(), source_topic in "[a-z.]{1,9}") {
            let record = written(&letter, &source_topic);
            prop_assert_eq!(read(record), Ok(ReadLetter { source_topic: source_topic.into(), letter }));
        }

        #[test]
        fn other_records_are_faults_never_panics(headers in proptest::collection::vec((name(), proptest::option::of(bytes())), 0..9)) {
            let record = RawRecord { headers, ..RawRecord::default() };
            prop_assert!(read(record).is_err());
        }
    }

    #[test]
    fn what_is_no_letter_says_why() {
        let letter = DeadLetter {
            position: Position { partition: PartitionId(3), offset: 41 },
            refused_by: Some(RefusedBy { application: "main".into(), export: "vip".into() }),
            reason: LetterReason::RowRefused,
            detail: "the vendor refused the row".into(),
            original: LetterOriginal::Carried(RawRecord::default()),
        };
        let good = written(&letter, "changes");
        for (header, held, fault) in [
            (TOPIC, None, LetterFault::Missing(TOPIC)),
            (PARTITION, Some(&b"x"[..]), LetterFault::Malformed(PARTITION)),
            (OFFSET, Some(b""), LetterFault::Malformed(OFFSET)),
            (CONNECTOR, Some(b"other"), LetterFault::Foreign),
            (CLASS, Some(b"org.apache.kafka.connect.errors.DataException"), LetterFault::Malformed(CLASS)),
            (MESSAGE, Some(b"\xff"), LetterFault::Malformed(MESSAGE)),
            (EXPORT, None, LetterFault::Missing(EXPORT)),
        ] {
            let mut record = good.clone();
            record.headers.retain(|(name, _)| name != header || held.is_some());
            for (name, value) in &mut record.headers {
                if name == header {
                    *value = held.map(<[u8]>::to_vec);
                }
            }
            assert_eq!(read(record), Err(fault), "{header}");
        }
    }
}
