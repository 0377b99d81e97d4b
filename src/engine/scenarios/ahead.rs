//! Removals by staging lists that are sent before anybody has read that their import is done.

use crate::engine::{
    Event,
    event::RoundEnd,
    output::Call,
    price::{Demand, Price},
};
use crate::model::{
    Text,
    activity::{Activity, ActivityCounts, ActivityState},
    call::{RemovalSource, Request},
    time::{Mono, UnixMillis},
};

use super::{
    LIST, Stage,
    staging::{STAGING, catalog, connection, leaving},
};

/// Two contacts that leave, whose import was taken; what activities take is known.
fn staged() -> (Stage, Text) {
    let mut stage = leaving(vec![connection(Some(true), &[STAGING])], &["p1", "p2"]);
    let counts = stage.next_call();
    stage.counts(&counts, &[(STAGING, 0)]);
    let import = stage.next_call();
    let Request::Import { name, .. } = &import.request else { panic!("{import:?}") };
    let name = name.file_name().into();
    stage.started(&import, 2);
    let time = &mut stage.engine.connections[0].activity_time;
    *time = crate::engine::activity_time::ActivityTime::default();
    for _ in 0..10 {
        time.learn(2, UnixMillis(0), UnixMillis(20_000));
    }
    (stage, name)
}

/// A price at which a call is worth waiting for.
fn dear(now: Mono) -> Price {
    Price::solve(now, &[Demand { per_second: 10.0, weight: 1.0, calls: 1.0 }], Some(0.01))
}

impl Stage {
    /// The next call, while calls are dear.
    fn next_dear_call(&mut self) -> Call {
        for _ in 0..2_000 {
            if !self.calls.is_empty() {
                return self.calls.remove(0);
            }
            self.engine.applications[0].price = dear(self.now.mono);
            self.pass(1_000);
        }
        panic!("no call in 2,000 s");
    }

    /// An activity that was taken and done at these times.
    fn ran(&self, id: u128, name: Option<Text>, taken_at: UnixMillis, done_at: UnixMillis) -> Activity {
        let counts = ActivityCounts { items_total: Some(2), items_completed: Some(2), ..ActivityCounts::default() };
        let activity = self.activity(id, ActivityState::Completed, 2, name);
        Activity { counts, created_at: Some(taken_at), completed_at: Some(done_at), ..activity }
    }

    /// One poll reads both activities of a round: the removal, and the import as `read` makes it of one that took 20 s;
    /// `read` gets when the removal was taken, too.
    fn both_read(read: impl FnOnce(Activity, UnixMillis) -> Activity) -> Self {
        let (mut stage, name) = staged();
        let began = stage.now.wall;
        let taken_at = stage.removal_goes_ahead();
        let poll = stage.next_dear_call();
        assert_eq!(poll.request, Request::Activities { cursor: None });
        assert_eq!(stage.members(), 2, "nobody has read anything yet");
        let removal = stage.ran(3, None, taken_at, taken_at.plus_ms(20_000));
        let import = read(stage.ran(2, Some(name), began, began.plus_ms(20_000)), taken_at);
        stage.activities(&poll, vec![removal, import], None);
        stage.pass(300);
        stage
    }

    /// The removal goes ahead; when it was taken.
    fn removal_goes_ahead(&mut self) -> UnixMillis {
        let began = self.now.mono;
        let removal = self.next_dear_call();
        let source = RemovalSource::Lists(vec![STAGING]);
        assert_eq!(removal.request, Request::Remove { source, targets: vec![LIST, STAGING] }, "no poll before it");
        let waited_ms = self.now.mono.since_ms(began);
        assert!((22_000..26_000).contains(&waited_ms), "{waited_ms}");
        self.started(&removal, 3);
        self.now.wall
    }
}

#[test]
fn one_poll_reads_both_activities_of_a_round() {
    let mut stage = Stage::both_read(|import, _| import);
    stage.pass(1_000);
    assert_eq!((stage.members(), stage.ends()), (0, vec![RoundEnd::Applied]));
    assert!(stage.events.iter().any(|event| matches!(event, Event::RoundEnded { ahead: true, .. })));
    assert!(!stage.condemned() && stage.engine.is_quiet());
}

#[test]
fn a_removal_of_the_second_in_which_its_import_ended_settles_nobody() {
    let stage = Stage::both_read(|import, taken_at| {
        let same_second = UnixMillis(taken_at.0 / 1_000 * 1_000);
        Activity { completed_at: Some(same_second), ..import }
    });
    assert_eq!(stage.ends(), [RoundEnd::Early]);
    assert!(stage.condemned(), "nobody knows who is on the list");
    assert!(!stage.engine.is_quiet());
    assert!(stage.engine.exports[0].rounds.was_early(), "the next removal waits until its import was read");
    let oldest = stage.engine.exports[0].removals.unfound.oldest().expect("they wait again");
    assert!(stage.now.mono.since_ms(oldest) > 20_000, "and have not begun to wait anew");
}

#[test]
fn an_import_that_is_shown_late_is_not_asked_for_without_a_pause() {
    let (mut stage, name) = staged();
    stage.removal_goes_ahead();
    let poll = stage.next_dear_call();
    stage.activities(&poll, Vec::new(), None);
    let alone = stage.next_dear_call();
    assert_eq!(alone.request, Request::Activity { activity_id: crate::model::ActivityId::from_u128(2) });
    let import = stage.activity(2, ActivityState::Processing, 0, Some(name));
    stage.answered(&alone, import);
    stage.pass(1_000);
    assert!(stage.calls.is_empty(), "{:?}", stage.calls);
}

#[test]
fn a_round_in_which_nobody_could_be_staged_makes_the_next_no_smaller() {
    let stage = Stage::both_read(|import, _| {
        let counts = ActivityCounts { items_total: Some(2), correctable: Some(2), ..ActivityCounts::default() };
        Activity { counts, error_lines: vec![2, 3], ..import }
    });
    assert_eq!(stage.ends(), [RoundEnd::NobodyStaged]);
    assert_eq!(stage.engine.exports[0].rounds.rows_max(), crate::engine::limits::IMPORT_ROWS_MAX);
}

#[test]
fn the_contacts_of_an_early_round_stay_fenced_until_its_import_is_over() {
    let (mut stage, name) = staged();
    let began = stage.now.wall;
    let taken_at = stage.removal_goes_ahead();
    let poll = stage.next_dear_call();
    let removal = stage.ran(3, None, taken_at, taken_at.plus_ms(20_000));
    let import = stage.activity(2, ActivityState::Processing, 0, Some(name.clone()));
    stage.activities(&poll, vec![removal, import], None);
    stage.enter("p1");
    let again = stage.next_dear_call();
    assert_eq!(again.request, Request::Activity { activity_id: crate::model::ActivityId::from_u128(2) });
    assert_eq!(stage.ends(), [], "the import may still run");
    let import = stage.ran(2, Some(name), began, stage.now.wall);
    stage.answered(&again, import);
    stage.pass(300);
    assert_eq!(stage.ends(), [RoundEnd::Early]);
    let mut imported = Vec::new();
    for _ in 0..4 {
        let call = stage.next_call();
        if let Request::Import { lists, .. } = &call.request
            && lists[..] == [LIST]
        {
            imported.extend(Stage::addresses(&call.request).into_iter().map(str::to_owned));
            break;
        }
    }
    assert_eq!(imported, ["p1@example.com"], "who is wanted again joins again");
}

#[test]
fn after_a_crash_the_removal_is_waited_for_and_then_its_import() {
    let (mut stage, name) = staged();
    let began = stage.now.wall;
    let taken_at = stage.removal_goes_ahead();
    let (state, offset, wall) = (stage.state, stage.offset, stage.now.wall.0 + 100_000);
    let mut stage = Stage::begin_with(catalog(), state, Some(offset), wall);
    stage.exit("p1");
    stage.exit("p2");
    let clear = stage.next_call();
    assert_eq!(clear.request, Request::Activities { cursor: None });
    let removal = stage.activity(3, ActivityState::Processing, 0, None);
    let import = stage.activity(2, ActivityState::Processing, 0, Some(name.clone()));
    stage.activities(&clear, vec![removal, import.clone()], None);
    let clear = stage.next_call();
    let removal = stage.ran(3, None, taken_at, stage.now.wall);
    stage.activities(&clear, vec![removal.clone(), import.clone()], None);
    let look = stage.next_call();
    assert_eq!(look.request, Request::Activities { cursor: None });
    stage.activities(&look, vec![removal.clone(), import], None);
    assert_eq!(stage.ends(), [], "the import still runs");
    let poll = stage.next_call();
    assert_eq!(poll.request, Request::Activity { activity_id: crate::model::ActivityId::from_u128(2) });
    let import = stage.ran(2, Some(name), began, stage.now.wall);
    stage.answered(&poll, import.clone());
    // Another removal may have been shown late.
    let clear = stage.next_call();
    assert_eq!(clear.request, Request::Activities { cursor: None });
    stage.activities(&clear, vec![removal, import], None);
    stage.pass(300);
    assert_eq!(stage.ends(), [RoundEnd::Followed]);
}
