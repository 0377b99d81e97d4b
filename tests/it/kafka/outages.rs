//! A broker, an API or a topic that is not there: it waits, says so, and goes on by itself.

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;

use crate::rig::{
    broker::Broker,
    registry::Registry,
    stage::{Account, LIMIT, World},
};

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
