//! `produce` into a real topic, with a real registry.

use std::process::Command;

use listkeeper::{
    codec::{Decoded, EventDecoder, EventFormat, FieldPaths, SchemaId, writer::SEGMENT_MEMBERSHIP_CHANGED},
    model::event::RecordContent,
};

use crate::rig::{broker::Broker, registry::Registry};

#[test]
fn events_are_in_the_topic_under_the_registered_schema() {
    let (broker, registry) = (Broker::shared(), Registry::shared());
    broker.create_topic("produced", 3);
    let output = Command::new(env!("CARGO_BIN_EXE_listkeeper"))
        .args(["produce", "--brokers", &broker.address, "--topic", "produced", "--registry", &registry.url()])
        .args(["--profiles", "300", "--segments", "3", "--seed", "5", "--json"])
        .output()
        .expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
    let id = registry.register("produced-value", SEGMENT_MEMBERSHIP_CHANGED);
    assert_eq!(figures["schema_id"], id, "the schema is registered as the topic's");

    let mut decoder = EventDecoder::new(FieldPaths::default(), EventFormat::AvroRegistry).expect("a decoder");
    decoder.add_schema(SchemaId(id), SEGMENT_MEMBERSHIP_CHANGED, &[]).expect("the published schema");
    let (mut events, mut undecodable) = (0_u64, 0_u64);
    for partition in 0..3 {
        for record in broker.read("produced", partition) {
            match decoder.decode(Some(&record.key), Some(&record.value)) {
                Ok(Decoded::Content(RecordContent::Event(_))) => events += 1,
                Err(_) => undecodable += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(figures["events"], events + undecodable);
    assert_eq!(undecodable, 4);
}

#[test]
fn a_topic_that_does_not_exist_is_not_made() {
    let output = Command::new(env!("CARGO_BIN_EXE_listkeeper"))
        .args(["produce", "--brokers", &Broker::shared().address, "--topic", "nobody-made-this"])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(69));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("nobody-made-this does not exist: create it first"), "{log}");
}
