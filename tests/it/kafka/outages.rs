//! A broker, an API or a topic that is not there: it waits, says so, and goes on by itself.

use std::time::Duration;

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;

use crate::rig::{
    broker::Broker,
    registry::Registry,
    stage::{Account, LIMIT, LIST, PARTITIONS, World, address, profile},
    wait,
};

/// What a stop takes beyond its drain time: the last transaction, the threads' ends, a busy machine.
const MARGIN: Duration = Duration::from_secs(8);

#[test]
fn an_api_that_is_down_is_waited_for() {
    let (broker, mut world) = (Broker::shared(), World::new("api-down"));
    let address = world.account.address;
    world.account.process.signal(Signal::SIGTERM);
    world.account.process.ended(LIMIT);
    world.produce(broker, ChangeKind::Entered, 0..20, Some("Ana"));
    let replica = world.replica("r1");
    replica.wait_for_reason("api_unreachable");
    assert!((replica.metric("listkeeper_dependency_up", "constant_contact") - 0.0).abs() < 0.5);
    world.account = Account::start(&world.folder, &address.to_string());
    world.wait_for(broker, 0..20, &[&replica]);
}

#[test]
fn a_broker_that_is_stopped_for_a_while_is_waited_for() {
    let broker = Broker::start();
    let world = World::on("broker-down", &broker, Registry::shared());
    world.produce(&broker, ChangeKind::Entered, 0..20, Some("Ana"));
    let replica = world.replica("r1");
    world.wait_for(&broker, 0..20, &[&replica]);
    broker.process.signal(Signal::SIGKILL);
    replica.wait_for_reason("brokers_unreachable");
    assert!((replica.metric("listkeeper_dependency_up", "kafka") - 0.0).abs() < 0.5);
    let broker = broker.restart();
    world.produce(&broker, ChangeKind::Exited, 0..5, None);
    world.produce(&broker, ChangeKind::Entered, 20..30, Some("Li"));
    world.wait_for(&broker, 5..30, &[&replica]);
    assert!((replica.metric("listkeeper_dependency_up", "kafka") - 1.0).abs() < 0.5);
}

#[test]
fn a_registry_that_does_not_answer_is_waited_for() {
    let (broker, registry) = (Broker::shared(), Registry::start());
    let world = World::on("registry-down", broker, &registry);
    world.produce(broker, ChangeKind::Entered, 0..20, Some("Ana"));
    registry.process.signal(Signal::SIGSTOP);
    let replica = world.replica("r1");
    replica.wait_for_reason("registry_unreachable");
    assert!((replica.metric("listkeeper_dependency_up", "schema_registry") - 0.0).abs() < 0.5);
    registry.process.signal(Signal::SIGCONT);
    world.wait_for(broker, 0..20, &[&replica]);
    assert!(broker.read(&format!("{}.dead", world.group), 0).is_empty(), "what waits is no dead letter");
}

#[test]
fn brokers_that_come_back_are_noticed_without_new_records() {
    let broker = Broker::start();
    let world = World::on("broker-blip", &broker, Registry::shared());
    world.produce(&broker, ChangeKind::Entered, 0..5, Some("Ana"));
    let replica = world.replica("r1");
    world.wait_for(&broker, 0..5, &[&replica]);
    broker.process.signal(Signal::SIGKILL);
    replica.wait_for_reason("brokers_unreachable");
    let _broker = broker.restart();
    replica.wait_without_reason("brokers_unreachable");
    assert!((replica.metric("listkeeper_dependency_up", "kafka") - 1.0).abs() < 0.5);
}

#[test]
fn a_stop_while_the_api_is_down_ends_within_the_drain_time() {
    let (broker, mut world) = (Broker::shared(), World::new("drain-api-down"));
    world.drain_seconds = 5;
    world.account = Account::start_with(&world.folder, "127.0.0.1:0", &["--activity-seconds", "600"]);
    world.produce(broker, ChangeKind::Entered, 0..20, Some("Ana"));
    let mut replica = world.replica("r1");
    // A batch is at work: the stop would wait for it.
    wait::until("an import", LIMIT, || (world.account.seen("import") > 0).then_some(()));
    world.account.process.signal(Signal::SIGKILL);
    replica.wait_for_reason("api_unreachable");
    replica.process.signal(Signal::SIGTERM);
    let ended = replica.process.ended(Duration::from_secs(5) + MARGIN);
    assert_eq!(ended.code(), Some(0), "{}", replica.process.log());
}

#[test]
fn a_stop_while_the_brokers_are_down_ends_in_bounded_time() {
    let broker = Broker::start();
    let mut world = World::on("drain-broker-down", &broker, Registry::shared());
    world.drain_seconds = 5;
    world.produce(&broker, ChangeKind::Entered, 0..5, Some("Ana"));
    let mut replica = world.replica("r1");
    world.wait_for(&broker, 0..5, &[&replica]);
    broker.process.signal(Signal::SIGKILL);
    replica.wait_for_reason("brokers_unreachable");
    replica.process.signal(Signal::SIGTERM);
    // The last transaction is waited for as long as it may take, and the group for as long as its session.
    let ended = replica.process.ended(Duration::from_secs(5 + 15 + 3) + MARGIN);
    assert_eq!(ended.code(), Some(0), "{}", replica.process.log());
}

#[test]
fn a_source_that_is_made_anew_is_a_hold_and_never_a_jump() {
    let (broker, world) = (Broker::shared(), World::new("made-anew"));
    world.produce(broker, ChangeKind::Entered, 0..30, Some("Ana"));
    let replica = world.replica("r1");
    world.wait_for(broker, 0..30, &[&replica]);
    broker.delete_topic(&world.topic);
    broker.create_topic(&world.topic, PARTITIONS);
    // More than there was before: an old offset lies in the middle of it.
    world.produce(broker, ChangeKind::Entered, 100..190, Some("Li"));
    replica.wait_for_reason("header_disagrees");
    let members = world.account.members(LIST);
    assert!(!(100..190).any(|number| members.contains(&address(&profile(number)))), "none was taken from the middle");
    // The hold stays, for a person to see, and the process with it.
    let terms = || replica.process.log().matches("header_disagrees").count();
    wait::until_or("a second look", LIMIT, || replica.process.log(), || (terms() > 1).then_some(()));
    assert_eq!(replica.health().expect("health")["shards"][0]["phase"], "held");
}

#[test]
fn a_source_that_was_made_anew_while_nobody_looked_is_a_hold_too() {
    let (broker, world) = (Broker::shared(), World::new("made-anew-meanwhile"));
    world.produce(broker, ChangeKind::Entered, 0..30, Some("Ana"));
    let mut replica = world.replica("r1");
    world.wait_for(broker, 0..30, &[&replica]);
    replica.process.signal(Signal::SIGTERM);
    replica.process.ended(LIMIT);
    broker.delete_topic(&world.topic);
    broker.create_topic(&world.topic, PARTITIONS);
    // More than there was before: every old offset lies in the middle of it.
    world.produce(broker, ChangeKind::Entered, 100..190, Some("Li"));
    let replica = world.replica("r2");
    replica.wait_for_reason("header_disagrees");
    let members = world.account.members(LIST);
    assert!(!(100..190).any(|number| members.contains(&address(&profile(number)))), "none was taken from the middle");
}
