//! Owners that die, and standbys that take over.

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;

use crate::rig::{
    broker::Broker,
    stage::{LIMIT, World},
    wait,
};

#[test]
fn a_standby_takes_over_from_an_owner_that_leaves_and_from_one_that_dies() {
    let (broker, world) = (Broker::shared(), World::new("takeover"));
    let mut first = world.replica("r1");
    first.wait_for_role("owner");
    let second = world.replica("r2");
    second.wait_for_role("standby");
    world.produce(broker, ChangeKind::Entered, 0..50, Some("Ana"));
    world.wait_for(broker, 0..50, &[&first, &second]);
    first.process.signal(Signal::SIGTERM);
    assert!(first.process.ended(LIMIT).success(), "{}", first.process.log());
    second.wait_for_role("owner");
    world.produce(broker, ChangeKind::Exited, 0..10, None);
    world.wait_for(broker, 10..50, &[&second]);

    let third = world.replica("r3");
    third.wait_for_role("standby");
    second.process.signal(Signal::SIGKILL);
    third.wait_for_role("owner");
    world.produce(broker, ChangeKind::Entered, 50..60, Some("Li"));
    world.wait_for(broker, 10..60, &[&third]);
    world.account.expect_no_violations();
}

#[test]
fn killed_at_any_moment_nothing_is_lost() {
    let (broker, world) = (Broker::shared(), World::new("kill"));
    world.produce(broker, ChangeKind::Entered, 0..200, Some("Ana"));
    // Each life ends at another point of the work, known by what the account has seen.
    for (round, kind) in ["lists", "import", "import", "remove"].into_iter().enumerate() {
        let replica = world.replica(&format!("r{round}"));
        let seen = |world: &World| world.account.report()["requests_by_kind"][kind].as_u64().unwrap_or(0);
        let before = seen(&world);
        let from = u32::try_from(round).expect("small") * 20;
        world.produce(broker, ChangeKind::Exited, from..from + 20, None);
        world.produce(broker, ChangeKind::Entered, 200 + from..220 + from, Some("Li"));
        wait::until_or(
            &format!("a call of the kind {kind}"),
            LIMIT,
            || replica.process.log(),
            || (seen(&world) > before).then_some(()),
        );
        replica.process.signal(Signal::SIGKILL);
    }
    let last = world.replica("last");
    world.wait_for(broker, 80..280, &[&last]);
    world.account.expect_no_violations();
}
