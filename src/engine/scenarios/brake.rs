//! Removals that wait for approval.

use crate::model::{
    call::{RemovalSource, Request},
    catalog::{Catalog, RemovalBrake},
    control::{ControlAction, ControlOutcome},
    event::ChangeKind,
};

use super::super::{Braked, reason::HoldReason};
use super::{START, Stage, catalog};

/// Ten members are ours, and two of them, or a fifth, may leave within an hour.
fn careful() -> Catalog {
    let mut catalog = catalog();
    catalog.exports[0].removal_brake = Some(RemovalBrake { percent: 20, contacts_min: 2 });
    catalog
}

fn names() -> Vec<String> {
    (0..10).map(|number| format!("p{number}")).collect()
}

impl Stage {
    fn ten_members() -> Self {
        let mut stage = Self::begin_with(careful(), Vec::new(), None, START);
        for name in names() {
            stage.enter(&name);
        }
        stage.complete(1);
        stage
    }

    fn exits(&mut self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.exit(&format!("p{number}"));
        }
        self.pass(2_000);
    }

    /// Answers what is asked until nothing is left to do; whom it removed, by number.
    fn removed(&mut self) -> Vec<u128> {
        let names = names();
        let ids: Vec<(&str, u128)> = (0..).zip(&names).map(|(number, name)| (name.as_str(), number)).collect();
        let mut removed: Vec<u128> =
            self.serve(&ids)
                .iter()
                .filter_map(|request| {
                    if let Request::Remove { source: RemovalSource::Contacts(ids), .. } = request { Some(ids) } else { None }
                })
                .flatten()
                .map(|id| id.as_u128())
                .collect();
        removed.sort_unstable();
        removed
    }

    fn braked(&self) -> Option<Braked> {
        self.engine.snapshot(self.now).exports[0].braked
    }
}

#[test]
fn what_fits_into_an_hour_goes_and_what_does_not_waits_until_it_is_approved() {
    let mut stage = Stage::ten_members();
    stage.exits(0..2);
    assert_eq!(stage.removed(), [0, 1]);
    stage.exits(2..3);
    assert_eq!(stage.braked(), Some(Braked { removals: 3, ours: 10, percent: 20 }));
    assert_eq!(stage.held(), Some(HoldReason::RemovalBrake));
    stage.enter("q1");
    stage.record("p5", "gold", ChangeKind::Updated, Some("p5@example.com"), Some("Bea"));
    stage.erase("p9");
    assert_eq!(stage.removed(), [9], "who was erased leaves, adds and updates go on");
    let view = stage.engine.snapshot(stage.now).exports[0].clone();
    assert_eq!((view.members, view.removals_held_back), (8, 1));
    assert!(view.explain().is_some_and(|text| text.starts_with("would remove 3 of 10 ours within an hour, more than 20 %")));
    assert_eq!(stage.order(ControlAction::Approve), ControlOutcome::Done);
    assert_eq!((stage.held(), stage.removed()), (None, vec![2]));
    assert_eq!(stage.order(ControlAction::Approve), ControlOutcome::Unchanged);
}

#[test]
fn an_hour_later_what_waits_goes_by_itself_if_it_fits() {
    let mut stage = Stage::ten_members();
    stage.exits(0..2);
    stage.removed();
    stage.exits(2..4);
    assert_eq!(stage.held(), Some(HoldReason::RemovalBrake));
    let mut stage = stage.restarted();
    stage.pass(60_000);
    assert_eq!(stage.held(), Some(HoldReason::RemovalBrake), "another owner counts the same hour");
    stage.pass(3_600_000);
    assert_eq!((stage.held(), stage.removed()), (None, vec![2, 3]));
}

#[test]
fn a_configuration_that_has_lost_a_segment_is_held_before_anybody_leaves() {
    let stage = Stage::ten_members();
    let mut catalog = careful();
    catalog.exports[0].segments = vec!["platinum".into()];
    let mut stage = stage.reconfigured(catalog);
    stage.pass(120_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    assert_eq!(stage.braked(), Some(Braked { removals: 10, ours: 10, percent: 20 }));
    // Put back, nobody has to leave.
    let mut stage = stage.reconfigured(careful());
    stage.pass(120_000);
    assert_eq!((stage.held(), stage.calls.len()), (None, 0));
}

#[test]
fn an_approval_covers_what_waited_then_and_a_restart_does_not_forget_it() {
    let mut stage = Stage::ten_members();
    stage.exits(0..4);
    assert_eq!(stage.held(), Some(HoldReason::RemovalBrake));
    assert_eq!(stage.order(ControlAction::Approve), ControlOutcome::Done);
    let mut stage = stage.restarted();
    assert_eq!((stage.held(), stage.removed()), (None, vec![0, 1, 2, 3]));
    // What was approved does not count against the hour, and is no leave for more.
    stage.exits(4..7);
    assert_eq!(stage.braked(), Some(Braked { removals: 3, ours: 6, percent: 20 }));
    assert!(stage.calls.is_empty());
}

#[test]
fn more_that_comes_while_what_was_approved_goes_waits_for_the_next_approval() {
    let mut stage = Stage::ten_members();
    stage.exits(0..4);
    stage.order(ControlAction::Approve);
    stage.exits(4..8);
    assert_eq!(stage.held(), Some(HoldReason::RemovalBrake));
    assert_eq!(stage.removed(), [0, 1, 2, 3]);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].removals_held_back, 4);
    stage.order(ControlAction::Approve);
    assert_eq!(stage.removed(), [4, 5, 6, 7]);
}

impl Stage {
    /// Another owner with the same configuration takes over.
    fn restarted(self) -> Self {
        self.reconfigured(careful())
    }
}
