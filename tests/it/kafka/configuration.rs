//! Configurations that change, and a look at what the stage keeps.

use std::process::Command;

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{
    broker::Broker,
    stage::{LIMIT, LIST, Replica, World, address, profile},
    wait,
};

/// Writes one change for each of these profiles in another segment than the world's.
fn produce_in(world: &mut World, broker: &Broker, segment: &str, change: ChangeKind, profiles: std::ops::Range<u32>) {
    let routed = std::mem::replace(&mut world.segment, segment.into());
    world.produce(broker, change, profiles, Some("Ana"));
    world.segment = routed;
}

fn stopped(mut replica: Replica) {
    replica.process.signal(Signal::SIGTERM);
    assert!(replica.process.ended(LIMIT).success(), "{}", replica.process.log());
}

/// What `state show` says of a replica's configuration.
fn shown(world: &World, replica: &str, question: &[&str]) -> Value {
    let config = world.folder.join(format!("{replica}.yaml")).display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_listkeeper"))
        .args(["state", "show", "--json", "--config", &config])
        .args(question)
        .output()
        .expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object on stdout")
}

#[test]
fn a_segment_is_added_and_removed_again_and_the_state_says_so() {
    let (broker, mut world) = (Broker::shared(), World::new("configuration"));
    world.produce(broker, ChangeKind::Entered, 0..30, Some("Ana"));
    produce_in(&mut world, broker, "silver", ChangeKind::Entered, 20..60);
    produce_in(&mut world, broker, "silver", ChangeKind::Exited, 50..60);
    let first = world.replica("first");
    world.wait_for(broker, 0..30, &[&first]);
    stopped(first);

    world.segment = "gold, silver".into();
    let second = world.replica("second");
    world.wait_for(broker, 0..50, &[&second]);
    assert!(second.metric("listkeeper_records_total", "outcome=\"read_again\"") >= 80.0);
    assert!(second.metric("listkeeper_backfill_offsets_left", "") < 0.5);
    let overview = shown(&world, "second", &[]);
    let header = &overview["shards"][0]["header"];
    assert_eq!(header["routed"][0]["segments"], serde_json::json!(["gold", "silver"]), "{overview}");
    assert_eq!(overview["shards"][0]["records"]["member"]["records"], 50, "{overview}");

    // An older file takes over while the newer one still runs: the state follows whoever owns the shard.
    world.segment = "gold".into();
    let third = world.replica("third");
    third.wait_for_role("standby");
    stopped(second);
    world.wait_for(broker, 0..30, &[&third]);
    // The vendor has done it; what is applied is known once the activity has been read.
    let export = wait::until("the removals are applied", LIMIT, || {
        let export = shown(&world, "third", &["--export", "vip"]);
        (export["on_the_list"] == 30).then_some(export)
    });
    assert_eq!((&export["profiles"], &export["in_a_segment"]), (&50.into(), &50.into()), "{export}");
    let kept = shown(&world, "third", &["--profile", &profile(40)]);
    assert_eq!(kept["exports"]["vip"]["segments"], serde_json::json!(["silver"]), "its facts are kept: {kept}");
    assert_eq!(kept["exports"]["vip"]["address"], address(&profile(40)));
    let calls = shown(&world, "third", &["--application", "main"]);
    assert!(calls["calls_reserved"].as_u64().is_some_and(|calls| calls > 5), "{calls}");
    stopped(third);

    world.segment = "gold, silver".into();
    let fourth = world.replica("fourth");
    world.wait_for(broker, 0..50, &[&fourth]);
    assert_eq!(world.account.members(LIST).len(), 50);
    world.account.expect_no_violations();
}
