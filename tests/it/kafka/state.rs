//! A state, or a source, that cannot be gone on from: a refusal or a hold that names its remedy, never a silent start from
//! nothing.

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;

use crate::rig::{
    broker::Broker,
    stage::{LIMIT, LIST, PARTITIONS, Replica, World, address, profile},
    wait,
};

const FINITE: [(&str, &str); 2] = [("max.compaction.lag.ms", "86400000"), ("segment.ms", "86400000")];

/// A replica that settles what there is and stops in order.
fn settled(broker: &Broker, world: &World) {
    world.produce(broker, ChangeKind::Entered, 0..30, Some("Ana"));
    let mut replica = world.replica("r1");
    world.wait_for(broker, 0..30, &[&replica]);
    stop(&mut replica);
}

fn stop(replica: &mut Replica) {
    replica.process.signal(Signal::SIGTERM);
    assert!(replica.process.ended(LIMIT).success(), "{}", replica.process.log());
}

/// A state topic that is refused with these words, until it is deleted: then the right one is made.
fn refused(name: &str, partitions: i32, settings: &[(&str, &str)], words: &[&str]) {
    let (broker, world) = (Broker::shared(), World::new(name));
    let state = format!("{}.state", world.group);
    broker.create_topic_with(&state, partitions, settings);
    world.produce(broker, ChangeKind::Entered, 0..10, Some("Ana"));
    let replica = world.replica("r1");
    replica.wait_for_reason("topics_not_ready");
    let explained = replica.explains("topics_not_ready");
    for word in words.iter().copied().chain([state.as_str()]) {
        assert!(explained.contains(word), "`{word}` is not in: {explained}");
    }
    assert_eq!(world.account.report()["requests"], 0, "nothing begins");
    broker.delete_topic(&state);
    world.wait_for(broker, 0..10, &[&replica]);
}

#[test]
fn a_state_topic_with_another_count_of_partitions_is_refused() {
    let settings = [("cleanup.policy", "compact"), FINITE[0], FINITE[1]];
    refused("state-partitions", 2, &settings, &["has 2 partitions", "`state.shards` says 1"]);
}

#[test]
fn a_state_topic_that_is_not_compacted_is_refused() {
    refused("state-policy", 1, &[("cleanup.policy", "delete")], &["set cleanup.policy=compact"]);
}

#[test]
fn a_state_topic_that_deletes_too_is_refused() {
    let settings = [("cleanup.policy", "compact,delete"), FINITE[0], FINITE[1]];
    refused("state-deletes", 1, &settings, &["set cleanup.policy=compact"]);
}

#[test]
fn a_state_topic_that_may_keep_erased_addresses_for_ever_is_refused() {
    refused("state-lag", 1, &[("cleanup.policy", "compact")], &["set max.compaction.lag.ms=86400000"]);
}

#[test]
fn a_state_topic_whose_segments_never_close_is_refused() {
    let endless = i64::MAX.to_string();
    let settings = [("cleanup.policy", "compact"), FINITE[0], ("segment.ms", endless.as_str())];
    refused("state-segment", 1, &settings, &["set segment.ms=86400000"]);
}

#[test]
fn a_compacted_source_is_refused() {
    let (broker, world) = (Broker::shared(), World::new("source-compacted"));
    broker.delete_topic(&world.topic);
    broker.create_topic_with(&world.topic, PARTITIONS, &[("cleanup.policy", "compact")]);
    world.produce(broker, ChangeKind::Entered, 0..10, Some("Ana"));
    let replica = world.replica("r1");
    replica.wait_for_reason("topics_not_ready");
    let explained = replica.explains("topics_not_ready");
    assert!(explained.contains("set cleanup.policy=delete"), "{explained}");
    assert_eq!(world.account.report()["requests"], 0, "nothing begins");
}

#[test]
fn a_state_record_that_cannot_be_read_is_a_hold() {
    let (broker, world) = (Broker::shared(), World::new("state-unreadable"));
    settled(broker, &world);
    broker.produce(&format!("{}.state", world.group), 0, &[(b"member/vip/p1", b"nonsense")]);
    world.produce(broker, ChangeKind::Exited, 0..10, None);
    world.produce(broker, ChangeKind::Entered, 30..40, Some("Li"));
    holds(&world, "state_unreadable", "run the version that wrote it");
}

#[test]
fn a_state_topic_that_is_gone_while_offsets_exist_is_a_hold() {
    let (broker, world) = (Broker::shared(), World::new("state-gone"));
    settled(broker, &world);
    broker.delete_topic(&format!("{}.state", world.group));
    world.produce(broker, ChangeKind::Exited, 0..10, None);
    world.produce(broker, ChangeKind::Entered, 30..40, Some("Li"));
    holds(&world, "state_gone", "restore it, or start anew with another `kafka.group`");
}

#[test]
fn records_that_the_source_deleted_before_they_were_read_are_a_hold() {
    let (broker, world) = (Broker::shared(), World::new("retention-gap"));
    settled(broker, &world);
    world.produce(broker, ChangeKind::Exited, 0..10, None);
    world.produce(broker, ChangeKind::Entered, 30..40, Some("Li"));
    broker.delete_records(&world.topic, 1, broker.end(&world.topic, 1) - 1);
    holds(&world, "retention_gap", "have the producer send the segments again");
}

/// A second replica holds, says what to do, and changes nothing, also when it looks again.
fn holds(world: &World, reason: &str, remedy: &str) {
    let before = world.account.report()["requests"].clone();
    let replica = world.replica("r2");
    replica.wait_for_reason(reason);
    let explained = replica.explains(reason);
    assert!(explained.contains(remedy), "{explained}");
    let looks = || replica.process.log().matches(reason).count();
    wait::until_or("a second look", LIMIT, || replica.process.log(), || (looks() > 1).then_some(()));
    assert_eq!(replica.health().expect("health")["shards"][0]["phase"], "held");
    assert_eq!(world.account.report()["requests"], before, "it calls nobody");
    assert_eq!(world.account.members(LIST).len(), 30);
}

#[test]
fn what_the_source_gained_while_nobody_looked_is_read_from_its_beginning_also_from_latest() {
    let (broker, mut world) = (Broker::shared(), World::new("grows-latest"));
    world.start = "latest";
    world.produce(broker, ChangeKind::Entered, 0..10, Some("Ana"));
    let mut replica = world.replica("r1");
    // Its first transaction says where it begins: behind what there was.
    let begun = || {
        let at = |partition| broker.committed(&format!("{}.0", world.group), &world.topic, partition);
        (0..PARTITIONS).all(|partition| at(partition) == Some(broker.end(&world.topic, partition))).then_some(())
    };
    wait::until_or("it has begun", LIMIT, || replica.process.log(), begun);
    world.produce(broker, ChangeKind::Entered, 10..20, Some("Ana"));
    world.wait_for(broker, 10..20, &[&replica]);
    stop(&mut replica);
    let gained = PARTITIONS;
    broker.grow_topic(&world.topic, usize::try_from(gained).expect("small") + 1);
    let (key, value) = (profile(100), world.value(&profile(100), "gold", ChangeKind::Entered, Some("Li")));
    broker.produce(&world.topic, gained, &[(key.as_bytes(), &value)]);
    let replica = world.replica("r2");
    world.wait_for(broker, (10..20).chain(100..101), &[&replica]);
    assert!(!world.account.members(LIST).contains(&address(&profile(0))), "`latest` leaves out what was there before");
}

#[test]
fn a_state_topic_that_goes_while_it_is_in_use_stops_the_work_and_is_no_new_beginning() {
    let (broker, world) = (Broker::shared(), World::new("state-goes"));
    world.produce(broker, ChangeKind::Entered, 0..30, Some("Ana"));
    let replica = world.replica("r1");
    world.wait_for(broker, 0..30, &[&replica]);
    let state = format!("{}.state", world.group);
    broker.delete_topic(&state);
    world.produce(broker, ChangeKind::Entered, 30..40, Some("Li"));
    let remedy = || replica.explains("term_failed").contains("restore it, or start anew with another `kafka.group`");
    wait::until_or("it says what to do", LIMIT, || replica.process.log(), || remedy().then_some(()));
    // Somebody makes it anew, with nothing in it.
    broker.create_topic_with(&state, 1, &[("cleanup.policy", "compact"), FINITE[0], FINITE[1]]);
    replica.wait_for_reason("state_gone");
    assert_eq!(world.account.members(LIST).len(), 30);
}
