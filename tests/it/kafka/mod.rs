//! The stage against a real Apache Kafka broker, a real schema registry, and the simulated account in a process of its
//! own.

mod bad_input;
mod configuration;
mod flow;
mod orders;
mod outages;
mod produce;
#[expect(clippy::disallowed_methods, reason = "it measures how long a takeover lasts, and says events in real time")]
mod shards;
mod state;
mod takeover;

use super::rig::{broker::Broker, registry::Registry};

#[test]
fn the_rig_is_real() {
    let (broker, registry) = (Broker::shared(), Registry::shared());
    broker.create_topic("rig-check", 2);
    broker.produce("rig-check", 1, &[(b"p1", b"one"), (b"p2", b"two")]);
    assert_eq!((broker.end("rig-check", 0), broker.end("rig-check", 1)), (0, 2));
    assert_eq!(broker.committed("nobody", "rig-check", 1), None);
    let id = registry.register("rig-check-value", r#""string""#);
    assert_eq!(registry.register("rig-check-value", r#""string""#), id, "the same schema, the same id");
}
