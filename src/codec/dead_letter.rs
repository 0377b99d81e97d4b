//! A dead letter's headers: Kafka Connect's names (KIP-298), and a few of our own. None holds personal data.

use crate::model::dead_letter::{DeadLetter, LetterOriginal, LetterReason};

/// The source topic.
pub const TOPIC: &str = "__connect.errors.topic";
/// The source partition.
pub const PARTITION: &str = "__connect.errors.partition";
/// The offset in it.
pub const OFFSET: &str = "__connect.errors.offset";
/// Always `listkeeper`.
pub const CONNECTOR: &str = "__connect.errors.connector.name";
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
pub fn headers(letter: &DeadLetter, source_topic: &str) -> Vec<(String, Vec<u8>)> {
    let stage = match letter.reason {
        LetterReason::Decode(_) => "VALUE_CONVERTER",
        LetterReason::NoAddress | LetterReason::InvalidAddress | LetterReason::RowRefused => "TASK_PUT",
    };
    let mut headers = vec![
        (TOPIC, source_topic.to_owned()),
        (PARTITION, letter.position.partition.0.to_string()),
        (OFFSET, letter.position.offset.to_string()),
        (CONNECTOR, "listkeeper".to_owned()),
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
    let own = own.iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()));
    own.chain(headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        dead_letter::RefusedBy,
        event::{DecodeFault, RawRecord},
        position::{PartitionId, Position},
    };

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
        let texts: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap())).collect();
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
}
