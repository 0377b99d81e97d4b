//! Where a record lies in Kafka.

use serde::{Deserialize, Serialize};

/// A partition of the source topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PartitionId(pub i32);

/// One record's place in the source: partition and offset. Order within a partition is the offset's, nothing else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// The partition.
    pub partition: PartitionId,
    /// The record's offset in it.
    pub offset: i64,
}

/// The offset that a reader takes next, for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct NextOffset {
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to read; everything below it is settled.
    pub offset: i64,
}
