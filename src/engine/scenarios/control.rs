//! What an operator orders: runs, pauses and their ends.

use crate::model::{
    ContactId, Text,
    activity::{Activity, ActivityState},
    call::{RemovalSource, Request},
    catalog::Catalog,
    control::{ControlAction, ControlOutcome},
    event::ChangeKind,
};

use super::super::{Event, output::OrderId, reason::HoldReason};
use super::{Input, LIST, Output, START, Stage, catalog};
use crate::model::catalog::ExportId;

impl Stage {
    /// The operator orders something of the first export; what became of it.
    pub(super) fn order(&mut self, action: ControlAction) -> ControlOutcome {
        self.engine.handle_input(self.now, Input::Control { order: OrderId(7), export: ExportId(0), action });
        self.drain();
        self.controlled.pop().expect("an order is answered")
    }

    /// Answers every call until nothing is left to do, as an account whose contacts have these ids; what was imported and
    /// removed.
    pub(super) fn serve(&mut self, contacts: &[(&str, u128)]) -> Vec<Request> {
        let mut sent = Vec::new();
        for _ in 0..400 {
            if self.calls.is_empty() {
                if self.engine.is_quiet() {
                    break;
                }
                self.pass(500);
                continue;
            }
            let call = self.calls.remove(0);
            match &call.request {
                Request::Import { .. } | Request::Remove { .. } => {
                    sent.push(call.request.clone());
                    self.started(&call, sent.len() as u128);
                }
                Request::Activity { activity_id } => {
                    let activity = self.finished(activity_id.as_u128(), &sent);
                    self.answered(&call, activity);
                }
                Request::Activities { .. } => {
                    let ids = 1..=sent.len() as u128;
                    let items = ids.map(|id| self.finished(id, &sent)).collect();
                    self.activities(&call, items, None);
                }
                Request::LookUp { address } => {
                    let found = contacts.iter().filter(|(profile, _)| *address == format!("{profile}@example.com"));
                    let found: Vec<(&str, u128)> = found.copied().collect();
                    self.contacts(&call, &found);
                }
                Request::ListMembers { .. } => self.contacts(&call, contacts),
                Request::Suppressed { .. }
                | Request::DeleteContacts { .. }
                | Request::FindList { .. }
                | Request::List { .. }
                | Request::CreateList { .. }
                | Request::Lists { .. }
                | Request::DeleteList { .. }
                | Request::ContactCounts => panic!("{:?}", call.request),
            }
        }
        assert!(self.engine.is_quiet(), "{:?}", self.calls);
        self.pass(300);
        sent
    }

    fn finished(&self, id: u128, sent: &[Request]) -> Activity {
        let request = sent.get(usize::try_from(id).unwrap_or_default() - 1);
        let (rows, name) = match request {
            Some(Request::Import { rows, name, .. }) => (rows.rows.len() as u64, Some(Text::from(name.file_name()))),
            _ => (0, None),
        };
        self.activity(id, ActivityState::Completed, rows, name)
    }

    pub(super) fn held(&self) -> Option<HoldReason> {
        self.engine.snapshot(self.now).exports[0].held
    }
}

/// The catalog with an export that waits for its first run.
fn when_run() -> Catalog {
    let mut catalog = catalog();
    catalog.exports[0].starts_at_once = false;
    catalog
}

#[test]
fn a_paused_export_keeps_what_comes_and_only_who_was_erased_leaves() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    for profile in ["p1", "p2", "p3"] {
        stage.enter(profile);
    }
    stage.complete(1);
    stage.exit("p1");
    assert_eq!(stage.order(ControlAction::Pause), ControlOutcome::Done);
    assert_eq!(stage.order(ControlAction::Pause), ControlOutcome::Unchanged);
    assert_eq!(stage.held(), Some(HoldReason::Paused));
    stage.enter("p4");
    stage.erase("p3");

    let erasure = stage.next_call();
    assert_eq!(erasure.request, Request::LookUp { address: "p3@example.com".into() });
    stage.contacts(&erasure, &[("p3", 13)]);
    stage.complete(2);
    stage.pass(300_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    assert_eq!(stage.offset, 6, "what waits is parked");

    // Another owner knows it too, and sends nothing either.
    let mut stage = stage.crash();
    stage.pass(300_000);
    assert_eq!((stage.held(), stage.calls.len()), (Some(HoldReason::Paused), 0));
    let view = stage.engine.snapshot(stage.now).exports[0].clone();
    assert_eq!((view.waiting, view.removals_held_back, view.paused), (1, 1, true));
    assert_eq!(stage.order(ControlAction::Resume), ControlOutcome::Done);
    let sent = stage.serve(&[("p1", 11)]);
    assert!(matches!(&sent[0], Request::Import { .. }) && Stage::addresses(&sent[0]) == ["p4@example.com"], "{sent:?}");
    assert_eq!(sent[1], Request::Remove { source: RemovalSource::Contacts(vec![ContactId::from_u128(11)]), targets: vec![LIST] });
    assert_eq!(sent.len(), 2);
    assert_eq!((stage.held(), stage.engine.snapshot(stage.now).exports[0].members), (None, 2));
}

#[test]
fn who_enters_again_while_an_export_is_paused_is_not_removed_after_it() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.order(ControlAction::Pause);
    stage.exit("p1");
    stage.pass(10_000);
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].removals_held_back, 1);
    stage.enter("p1");
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].removals_held_back, 0);
    stage.order(ControlAction::Resume);
    stage.pass(300_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
}

#[test]
fn a_batch_that_was_cut_and_has_not_left_goes_back_when_its_export_is_paused() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.enter("p1");
    stage.complete(1);
    stage.enter("p2");
    stage.now.mono = stage.now.mono.plus_ms(1_500);
    stage.engine.handle_timeout(stage.now);
    let pause = Input::Control { order: OrderId(1), export: ExportId(0), action: ControlAction::Pause };
    while let Some(output) = stage.engine.poll_output() {
        if let Output::Commit(commit) = output {
            stage.commits.push(commit);
        } else if let Output::Event(event) = output {
            stage.events.push(event);
        }
    }
    assert!(stage.events.iter().any(|event| matches!(event, Event::BatchCut { rows: 1, .. })) && stage.commits.len() == 1);
    stage.engine.handle_input(stage.now, pause);
    stage.drain();
    stage.pass(300_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
    stage.order(ControlAction::Resume);
    assert_eq!(Stage::addresses(&stage.complete(2)), ["p2@example.com"]);
    assert!(stage.engine.is_quiet());
}

#[test]
fn an_order_is_answered_once_it_is_in_the_state() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    let pause = Input::Control { order: OrderId(3), export: ExportId(0), action: ControlAction::Pause };
    stage.engine.handle_input(stage.now, pause);
    let mut commit = None;
    while let Some(output) = stage.engine.poll_output() {
        assert!(!matches!(output, Output::Controlled { .. }), "answered before it was written");
        if let Output::Commit(one) = output {
            commit = Some(one);
        }
    }
    let commit = commit.expect("it is written at once");
    stage.engine.handle_input(stage.now, Input::Committed { commit: commit.commit, began: stage.now.mono });
    stage.drain();
    assert_eq!(stage.controlled, [ControlOutcome::Done]);
    assert!(stage.events.contains(&Event::Ordered { export: ExportId(0), action: ControlAction::Pause }));
    let deadline = stage.now.mono.plus_ms(1_000);
    stage.engine.handle_input(stage.now, Input::Drain { deadline });
    assert_eq!(stage.order(ControlAction::Resume), ControlOutcome::Stopping);
}

#[test]
fn the_first_run_is_asked_for_once_and_begins_with_the_next_term() {
    let mut stage = Stage::begin_with(when_run(), Vec::new(), None, START);
    stage.enter("p1");
    stage.exit("p1");
    stage.enter("p2");
    stage.pass(60_000);
    assert_eq!((stage.held(), stage.offset, stage.calls.len()), (Some(HoldReason::NotStarted), 3, 0));
    assert_eq!(stage.order(ControlAction::Run), ControlOutcome::BeginsAnew);
    stage.engine.handle_input(stage.now, Input::Drain { deadline: stage.now.mono.plus_ms(60_000) });
    stage.drain();
    assert!(stage.drained && stage.header().ended, "nothing was under way");

    let mut stage = stage.reconfigured(when_run());
    assert_eq!(Stage::addresses(&stage.complete(1)), ["p2@example.com"], "the source was read from its beginning");
    assert_eq!(stage.order(ControlAction::Run), ControlOutcome::Unchanged);
    let mut stage = stage.reconfigured(when_run());
    stage.exit("p2");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p2@example.com".into() }, "it stays started");
}

#[test]
fn an_export_that_waits_for_its_first_run_again_removes_who_is_erased_and_nobody_else() {
    let mut stage = Stage::begin(Vec::new(), None, START);
    stage.record("p1", "gold", ChangeKind::Entered, Some("p1@example.com"), None);
    stage.record("p2", "gold", ChangeKind::Entered, Some("p2@example.com"), None);
    stage.complete(1);
    let mut stage = stage.reconfigured(when_run());
    assert_eq!(stage.held(), Some(HoldReason::NotStarted));
    stage.exit("p1");
    stage.erase("p2");
    let look_up = stage.next_call();
    assert_eq!(look_up.request, Request::LookUp { address: "p2@example.com".into() });
    stage.contacts(&look_up, &[("p2", 12)]);
    stage.complete(2);
    stage.pass(300_000);
    assert!(stage.calls.is_empty() && stage.engine.is_quiet());
    assert_eq!(stage.engine.snapshot(stage.now).exports[0].members, 1);
}
