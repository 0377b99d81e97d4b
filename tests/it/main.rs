//! The tests that need sockets, the real binary or a real broker, as one binary.

#[expect(dead_code, reason = "the scenarios of the stage, which start processes, come with the stage")]
#[expect(clippy::disallowed_methods, reason = "the rig waits, with bounds, for processes of the real world")]
mod rig;
mod simulator;

mod kafka {
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
}
