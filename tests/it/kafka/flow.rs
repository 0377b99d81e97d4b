//! The main job: segment changes become members of a list, and offsets are committed only then.

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;

use crate::rig::{
    broker::Broker,
    http,
    stage::{LIMIT, LIST, PARTITIONS, World, profile},
    wait,
};

#[test]
fn changes_become_members_and_offsets_follow() {
    let (broker, world) = (Broker::shared(), World::new("flow"));
    world.produce(broker, ChangeKind::Entered, 0..300, Some("Ana"));
    let mut replica = world.replica("r1");
    world.wait_for(broker, 0..300, &[&replica]);
    assert!(replica.metric("listkeeper_profiles_applied_total", "operation=\"add\"") >= 300.0);

    // Exits without a profile, updates that change something, and some that do not.
    world.produce(broker, ChangeKind::Exited, 0..40, None);
    world.produce(broker, ChangeKind::Updated, 40..60, Some("Li"));
    world.produce(broker, ChangeKind::Updated, 60..300, Some("Ana"));
    world.produce(broker, ChangeKind::Entered, 300..310, Some("Sam"));
    world.wait_for(broker, 40..310, &[&replica]);
    assert!((replica.metric("listkeeper_profiles_applied_total", "operation=\"update\"") - 20.0).abs() < 0.5);
    assert!(replica.metric("listkeeper_records_total", "outcome=\"unchanged\"") >= 240.0);
    world.account.expect_no_violations();
    assert_eq!(http::get(replica.admin, "/livez").map(|(status, _)| status), Some(200));
    assert_eq!(http::get(replica.admin, "/readyz").map(|(status, _)| status), Some(200));
    let health = replica.health().expect("health");
    assert_eq!(health["moving"], true, "{health}");

    // A stop in order, and a start: what was applied is known, nothing is sent again.
    replica.process.signal(Signal::SIGTERM);
    assert!(replica.process.ended(LIMIT).success(), "{}", replica.process.log());
    let imports = |world: &World| world.account.report()["requests_by_kind"]["import"].as_u64();
    let before = imports(&world);
    let replica = world.replica("r2");
    replica.wait_for_role("owner");
    world.produce(broker, ChangeKind::Updated, 60..300, Some("Ana"));
    world.produce(broker, ChangeKind::Exited, 300..310, None);
    world.wait_for(broker, 40..300, &[&replica]);
    assert_eq!(imports(&world), before, "an update without a difference is not sent, also after a restart");
    assert_eq!(world.account.members(LIST).len(), 260);
}

#[test]
fn a_source_that_grows_is_read_from_the_beginning_of_what_it_gained_and_profiles_move_there() {
    let (broker, world) = (Broker::shared(), World::new("grows"));
    world.produce(broker, ChangeKind::Entered, 0..6, Some("Ana"));
    let replica = world.replica("r1");
    world.wait_for(broker, 0..6, &[&replica]);
    let gained = PARTITIONS;
    broker.grow_topic(&world.topic, usize::try_from(gained).expect("small") + 1);
    let (key, value) = (profile(100), world.value(&profile(100), "gold", ChangeKind::Entered, Some("Li")));
    // Profile 1 entered in an older partition.
    let (moved, left) = (profile(1), world.value(&profile(1), "gold", ChangeKind::Exited, None));
    broker.produce(&world.topic, gained, &[(key.as_bytes(), &value), (moved.as_bytes(), &left)]);
    world.wait_for(broker, (0..6).filter(|number| *number != 1).chain(100..101), &[&replica]);
    let committed = || broker.committed(&format!("{}.0", world.group), &world.topic, gained).filter(|offset| *offset == 2);
    wait::until_or("its offset is committed", LIMIT, || replica.process.log(), committed);
}
