//! What the vendor says of the day, and how it is tried whether it still says so; what stood still meanwhile.

use crate::model::{
    call::{Disposition, Lost, NotSent, Outcome, Request},
    catalog::RemovalStrategy,
};

use super::super::reason::HoldReason;
use super::{
    START, Stage,
    calls::{MIDNIGHT, held},
    catalog,
};

/// Who is imported by the calls of the next `ms`; every import starts.
fn imported(stage: &mut Stage, ms: u64) -> Vec<String> {
    let until = stage.now.mono.plus_ms(ms);
    let mut addresses = Vec::new();
    while stage.now.mono < until {
        stage.pass(500);
        for call in std::mem::take(&mut stage.calls) {
            if let Request::Import { .. } = &call.request {
                addresses.extend(Stage::addresses(&call.request).into_iter().map(str::to_owned));
                stage.started(&call, u128::from(call.call.0));
            } else {
                stage.activities(&call, Vec::new(), None);
            }
        }
    }
    addresses
}

/// A stage whose first import was refused because the day is spent, with another change that came meanwhile.
fn denied(wall: i64) -> Stage {
    let mut stage = Stage::begin(Vec::new(), None, wall);
    stage.enter("p1");
    let post = stage.next_call();
    stage.refused(&post, 429, Disposition::QuotaExceeded);
    stage.enter("p2");
    assert_eq!(held(&stage), Some(HoldReason::QuotaSpentByOthers));
    // After an hour the suppressed contacts are read first.
    stage.reads_suppressed = true;
    stage
}

#[test]
fn a_probe_that_is_answered_frees_what_came_meanwhile() {
    for (wall, hold_ms) in [(MIDNIGHT + 100_000, 300_000), (START, 3_700_000)] {
        let mut stage = denied(wall);
        let probe = stage.next_call_within(hold_ms);
        let mut expected = vec!["p2@example.com"];
        if let Request::Import { .. } = &probe.request {
            stage.started(&probe, 1);
        } else {
            stage.suppressed(&probe, &[]);
            expected.insert(0, "p1@example.com");
        }
        stage.reads_suppressed = false;
        assert_eq!(imported(&mut stage, 60_000), expected, "the rest of the day is ours");
    }
}

#[test]
fn a_probe_is_one_call_and_holds_nothing_while_it_is_under_way() {
    let mut stage = denied(START);
    stage.next_call_within(3_700_000);
    stage.pass(20_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    assert_eq!(held(&stage), None, "nobody knows what the vendor says now");
}

#[test]
fn a_probe_that_told_nothing_is_followed_by_another() {
    let mut stage = denied(START);
    let probe = stage.next_call_within(3_700_000);
    stage.answer(&probe, Outcome::NotSent(NotSent::Unreachable));
    stage.next_call_within(10_000);
    let mut stage = denied(START);
    let probe = stage.next_call_within(3_700_000);
    stage.answer(&probe, Outcome::Unknown(Lost::Timeout));
    assert_eq!(held(&stage), Some(HoldReason::QuotaSpentByOthers), "the reason stays the vendor's word");
    stage.pass(3_000_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    stage.next_call_within(900_000);
}

#[test]
fn the_token_endpoint_is_asked_while_the_day_is_said_to_be_spent() {
    let mut stage = denied(START);
    let quota = &mut stage.engine.applications[0].quota;
    quota.allow_probe();
    let charge = quota.charge_token(stage.now, 30_000).expect("calls are left");
    assert!(!charge.is_probe() && quota.may_probe() && quota.is_denied(), "it says nothing of the day");
    assert!(quota.charge(stage.now, 30_000, 0).is_ok_and(|charge| charge.is_probe()));
}

#[test]
fn what_could_not_be_sent_for_an_hour_needs_room_in_this_one() {
    let mut config = catalog();
    config.exports[0].profiles_per_hour_max = Some(2);
    let mut stage = Stage::begin_with(config, Vec::new(), None, START);
    stage.enter("p1");
    stage.enter("p2");
    let post = stage.next_call();
    stage.answer(&post, Outcome::NotSent(NotSent::Unreachable));
    let until = stage.now.mono.plus_ms(7_200_000);
    stage.engine.connections[0].held = Some((HoldReason::Forbidden, until));
    stage.pass(60_000);
    stage.enter("p3");
    stage.enter("p4");
    stage.pass(7_100_000);
    let first = imported(&mut stage, 600_000);
    assert_eq!(first.len(), 2, "{first:?}");
    let second = imported(&mut stage, 3_600_000);
    assert_eq!(second.len(), 2, "{second:?}");
}

#[test]
fn look_ups_that_take_more_than_a_day_begin_today() {
    let mut config = catalog();
    config.applications[0].calls_per_day = Some(40);
    config.exports[0].removal_strategies = vec![RemovalStrategy::LookUp];
    let profiles: Vec<String> = (0..60).map(|index| format!("p{index}")).collect();
    let mut stage = Stage::begin_with(config, Vec::new(), None, START);
    for profile in &profiles {
        stage.enter(profile);
    }
    stage.complete(1);
    for profile in &profiles {
        stage.exit(profile);
    }
    let look_up = stage.next_call_within(3_600_000);
    assert!(matches!(look_up.request, Request::LookUp { .. }), "{look_up:?}");
}
