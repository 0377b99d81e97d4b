//! What an operator orders of an export, by the command line and the admin port of the real binary.

use std::{
    net::SocketAddr,
    process::{Command, Output},
};

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{
    broker::Broker,
    stage::{LIMIT, LIST, PARTITIONS, Replica, World, address, partition_of, profile},
    wait,
};

/// `listkeeper export ORDER vip` beside a replica.
fn export(order: &str, admin: SocketAddr, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_listkeeper"));
    command.args(["export", order, "vip", "--admin", &format!("http://{admin}")]).args(more);
    command.output().expect("the binary starts")
}

/// An order that is taken.
fn ordered(order: &str, replica: &Replica) {
    let output = export(order, replica.admin, &[]);
    assert!(output.status.success(), "{order}: {output:?}\n{}", replica.process.log());
}

/// What `export show` tells.
fn shown(replica: &Replica) -> Option<Value> {
    serde_json::from_slice(&export("show", replica.admin, &["--json"]).stdout).ok()
}

/// Waits until every offset of the source is committed.
fn wait_committed(world: &World, broker: &Broker, replica: &Replica) {
    let at = |partition| broker.committed(&format!("{}.0", world.group), &world.topic, partition).unwrap_or(0);
    let all = || (0..PARTITIONS).all(|partition| at(partition) == broker.end(&world.topic, partition)).then_some(());
    wait::until_or("every offset is committed", LIMIT, || replica.process.log(), all);
}

#[test]
fn an_export_sends_from_its_first_run_on_and_nothing_while_it_is_paused() {
    let (broker, mut world) = (Broker::shared(), World::new("orders"));
    (world.starts, world.park_after_seconds) = ("when_run", 2);
    world.produce(broker, ChangeKind::Entered, 0..40, Some("Ana"));
    world.produce(broker, ChangeKind::Exited, 0..5, None);
    let mut first = world.replica("r1");
    first.wait_for_role("owner");
    first.wait_for_reason("not_started");
    wait_committed(&world, broker, &first);
    assert_eq!(world.account.seen("import"), 0, "nothing is sent before the first run");

    // A standby takes no orders, and names who does.
    let standby = world.replica("r2");
    standby.wait_for_role("standby");
    let refused = export("run", standby.admin, &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("ask its owner at {}", first.admin)), "{said}");
    assert_eq!(world.account.seen("import"), 0);

    ordered("run", &first);
    world.wait_for(broker, 5..40, &[&first]);
    first.process.signal(Signal::SIGTERM);
    assert!(first.process.ended(LIMIT).success(), "{}", first.process.log());
    standby.wait_for_role("owner");
    world.produce(broker, ChangeKind::Entered, 40..50, Some("Li"));
    world.wait_for(broker, 5..50, &[&standby]);

    ordered("pause", &standby);
    standby.wait_for_reason("paused");
    let before = world.account.members(LIST);
    let imports = world.account.seen("import");
    world.produce(broker, ChangeKind::Entered, 50..60, Some("Li"));
    world.produce(broker, ChangeKind::Exited, 5..10, None);
    wait_committed(&world, broker, &standby);
    assert_eq!(world.account.members(LIST), before, "what comes is kept");

    // Who is erased leaves all the same.
    broker.produce_tombstone(&world.topic, partition_of(20), profile(20).as_bytes());
    let expected = before.iter().filter(|one| **one != address(&profile(20))).cloned().collect();
    let left = || (world.account.members(LIST) == expected).then_some(());
    wait::until_or("the erased profile has left, alone", LIMIT, || standby.process.log(), left);
    wait_committed(&world, broker, &standby);

    standby.process.signal(Signal::SIGKILL);
    let third = world.replica("r3");
    third.wait_for_role("owner");
    third.wait_for_reason("paused");
    wait::until_or("calls may begin", LIMIT, || third.process.log(), || (third.explains("owner_died").is_empty()).then_some(()));
    assert_eq!((world.account.members(LIST), world.account.seen("import")), (expected, imports), "the pause outlives its owner");
    ordered("resume", &third);
    third.wait_without_reason("paused");
    world.wait_for(broker, (10..60).filter(|number| *number != 20), &[&third]);
    world.account.expect_no_violations();
}

#[test]
fn removals_of_most_members_wait_for_approval_while_adds_go_on() {
    let (broker, world) = (Broker::shared(), World::new("brake"));
    let replica = world.replica("r1");
    world.produce(broker, ChangeKind::Entered, 0..1_400, Some("Ana"));
    world.wait_for(broker, 0..1_400, &[&replica]);
    world.produce(broker, ChangeKind::Exited, 0..1_300, None);
    replica.wait_for_reason("removal_brake");
    world.produce(broker, ChangeKind::Entered, 1_400..1_410, Some("Li"));
    // All have been read, and whoever has not left by then is held back.
    let settled = || {
        let members = world.account.members(LIST);
        let held_back = shown(&replica)?["removals_held_back"].as_u64()?;
        let added = (1_400..1_410).all(|number| members.contains(&address(&profile(number))));
        (added && held_back > 0 && members.len() as u64 == held_back + 110).then_some(held_back)
    };
    let held_back = wait::until_or("the adds are there, the rest is held back", LIMIT, || replica.process.log(), settled);
    assert!(held_back >= 300, "no more than 1,000 left before the brake: {held_back}");
    assert!(replica.explains("removal_brake").contains("listkeeper export approve vip"));
    ordered("approve", &replica);
    world.wait_for(broker, 1_300..1_410, &[&replica]);
    replica.wait_without_reason("removal_brake");
    world.account.expect_no_violations();
}
