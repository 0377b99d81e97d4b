//! Kafka: ownership, source, state topic, transactions.
