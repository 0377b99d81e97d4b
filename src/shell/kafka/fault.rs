//! What can go wrong with Kafka, in words for the operator. Never a value of an option: passwords are among them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::codec::state::StateFault;

/// Why something of Kafka ended or was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaFault {
    /// A client could not be made.
    #[error("the Kafka client for {role} cannot be made: {detail}")]
    Client {
        /// What it was for.
        role: String,
        /// What librdkafka says.
        detail: String,
    },
    /// A topic is not as it must be.
    #[error("topic `{topic}` {problem}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The shard is not this replica's (any more): it must not go on.
    #[error("shard {shard} is not owned by this replica: {detail}")]
    NotOwner {
        /// The shard.
        shard: u32,
        /// What the broker said.
        detail: String,
    },
    /// The state cannot be trusted.
    #[error("the record at offset {offset} of the state cannot be read: {fault}")]
    StateUnreadable {
        /// Where it lies in the shard's partition.
        offset: i64,
        /// What is wrong with it.
        fault: StateFault,
    },
    /// The reader's offset is no longer in the source's log.
    #[error("the source no longer has the records that come next: {detail}")]
    OffsetGone {
        /// What librdkafka says.
        detail: String,
    },
    /// A client met an error after which it is of no use.
    #[error("{doing} failed for good: {detail}")]
    Fatal {
        /// What was being done.
        doing: &'static str,
        /// What librdkafka says.
        detail: String,
    },
    /// Something failed; trying again may help.
    #[error("{doing} failed: {detail}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What librdkafka says.
        detail: String,
    },
    /// It was told to stop, or nobody waits for it any more.
    #[error("stopped")]
    Stopped,
}

impl KafkaFault {
    /// A failure of librdkafka while something was done.
    pub(super) fn failed(doing: &'static str, error: &KafkaError) -> Self {
        Self::Failed { doing, detail: plain(error) }
    }

    /// A client that could not be made.
    pub(super) fn client(role: &str, error: &KafkaError) -> Self {
        Self::Client { role: role.to_owned(), detail: plain(error) }
    }

    /// A thread that could not be started.
    pub(super) fn thread(doing: &'static str, error: &std::io::Error) -> Self {
        Self::Failed { doing, detail: error.to_string() }
    }
}

/// An error's text without values: librdkafka quotes an option that it refuses.
pub(super) fn plain(error: &KafkaError) -> String {
    if let KafkaError::ClientConfig(_, _, name, _) = error {
        format!("the option `{name}` is refused: correct it under `kafka.options`")
    } else if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure) {
        "no broker of `kafka.brokers` answers (BrokerTransportFailure)".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::{ClientConfig, consumer::BaseConsumer};

    #[test]
    fn a_refused_option_is_named_without_its_value() {
        let mut client = ClientConfig::new();
        client.set("sasl.mechanism.of.nobody", "canary");
        let refused = client.create::<BaseConsumer>().err().map(|error| plain(&error)).unwrap_or_default();
        assert_eq!(refused, "the option `sasl.mechanism.of.nobody` is refused: correct it under `kafka.options`");
    }
}
