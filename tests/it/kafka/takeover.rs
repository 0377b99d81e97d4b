//! Owners that die, and standbys that take over.

use listkeeper::model::event::ChangeKind;
use nix::sys::signal::Signal;

use crate::rig::{
    broker::Broker,
    stage::{Account, LIMIT, World},
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

#[test]
fn an_owner_that_was_stopped_for_longer_than_its_session_wakes_and_does_no_harm() {
    let (broker, mut world) = (Broker::shared(), World::new("zombie"));
    // So slow that the batch is open from the stop to the takeover.
    world.account = Account::start_with(&world.folder, "127.0.0.1:0", &["--activity-seconds", "6"]);
    let mut replicas = [world.replica("r0"), world.replica("r1")];
    wait::until("an owner", LIMIT, || replicas.iter().any(|one| one.role().as_deref() == Some("owner")).then_some(()));
    if replicas[1].role().as_deref() == Some("owner") {
        replicas.swap(0, 1);
    }
    replicas[1].wait_for_role("standby");
    // Stopped in the middle of an import, then of a removal, each time with more to come.
    let rounds = [("import", 0..60, 0..0), ("remove", 60..80, 0..20)];
    for (kind, entered, exited) in rounds {
        let [owner, standby] = &replicas;
        let before = world.account.seen(kind);
        world.produce(broker, ChangeKind::Entered, entered, Some("Ana"));
        world.produce(broker, ChangeKind::Exited, exited, None);
        let seen = || (world.account.seen(kind) > before).then_some(());
        wait::until_or(&format!("a call of the kind {kind}"), LIMIT, || owner.process.log(), seen);
        owner.process.signal(Signal::SIGSTOP);
        world.produce(broker, ChangeKind::Updated, 20..40, Some(kind));
        standby.wait_for_role("owner");
        owner.process.signal(Signal::SIGCONT);
        owner.wait_for_role("standby");
        replicas.swap(0, 1);
    }
    world.produce(broker, ChangeKind::Entered, 80..90, Some("Li"));
    world.wait_for(broker, 20..90, &[&replicas[0], &replicas[1]]);
    world.account.expect_no_violations();
    // The one that woke is as good as before.
    replicas[0].process.signal(Signal::SIGTERM);
    assert!(replicas[0].process.ended(LIMIT).success(), "{}", replicas[0].process.log());
    world.produce(broker, ChangeKind::Entered, 90..95, Some("Li"));
    world.wait_for(broker, 20..95, &[&replicas[1]]);
    world.account.expect_no_violations();
}
