//! Contacts that change all the time: sent five times within a day, then parked until the first of these is a day old.

use crate::model::{
    call::Request,
    catalog::{Export, ListRef},
    event::ChangeKind,
    state::{StateKey, StateValue},
};

use super::{Event, ListId, START, Stage, catalog};

const DAY: u64 = 86_400_000;
const HOUR: u64 = 3_600_000;

impl Stage {
    fn update(&mut self, name: &str) {
        self.record("p1", "gold", ChangeKind::Updated, Some("p1@example.com"), Some(name));
    }

    fn flapping(&self) -> Vec<u64> {
        self.engine.snapshot(self.now).exports.iter().map(|export| export.flapping).collect()
    }

    /// The next call is an import of this row alone, and is seen through.
    fn sends(&mut self, name: &str, id: u128) {
        let request = self.complete(id);
        let Request::Import { rows, .. } = &request else { panic!("no import: {request:?}") };
        assert_eq!(rows.rows[0].1.first_name.as_deref(), Some(name));
        assert_eq!(rows.rows.len(), 1);
    }

    /// Five sends, an hour apart.
    fn five() -> Self {
        let mut stage = Self::begin(Vec::new(), None, START);
        stage.enter("p1");
        stage.sends("Ana", 1);
        for (id, name) in [(2, "B"), (3, "C"), (4, "D"), (5, "E")] {
            stage.pass(HOUR);
            stage.update(name);
            stage.sends(name, id);
        }
        stage
    }

    /// What was parked goes by itself, a day after the first send and with the newest row.
    fn goes_by_itself(&mut self, name: &str, id: u128) {
        self.pass(DAY - 4 * HOUR - 60_000 - (self.now.wall.0 - START).unsigned_abs() % HOUR);
        assert!(self.calls.is_empty(), "not a day yet: {:?}", self.calls);
        self.pass(120_000);
        self.sends(name, id);
        assert_eq!(self.flapping(), [0]);
        assert!(self.engine.is_quiet());
    }
}

#[test]
fn a_sixth_send_within_a_day_waits_and_goes_by_itself_with_the_newest_row() {
    let mut stage = Stage::five();
    stage.update("F");
    stage.update("G");
    stage.pass(10_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.flapping(), [1]);
    assert!(!stage.engine.is_quiet(), "something is left to do");
    assert_eq!(stage.offset, stage.next_record, "its events are settled");
    assert!(stage.events.iter().any(|event| matches!(event, Event::Flapping { contacts: 1, .. })));
    stage.goes_by_itself("G", 6);
}

#[test]
fn another_term_knows_how_often_a_contact_was_sent() {
    let mut stage = Stage::five();
    stage.update("F");
    stage.pass(10_000);
    let mut stage = stage.crash();
    assert_eq!(stage.flapping(), [1]);
    stage.update("G");
    stage.goes_by_itself("G", 6);
}

#[test]
fn who_leaves_waits_for_nothing_and_is_remembered_for_a_day() {
    let mut stage = Stage::five();
    stage.update("F");
    stage.pass(10_000);
    stage.exit("p1");
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[("p1", 4)]);
    let Request::Remove { .. } = stage.complete(100) else { panic!("a removal") };
    assert_eq!(stage.flapping(), [0]);
    assert!(stage.engine.is_quiet());
    let is_member = |key: &StateKey| matches!(key, StateKey::Member { .. });
    let last = |stage: &Stage| stage.state.iter().rfind(|change| is_member(&change.key)).unwrap().value.clone();
    let Some(StateValue::Member(cut)) = last(&stage) else { panic!("its record stands") };
    assert_eq!((cut.address, cut.sent.len(), cut.sent[0].at.len()), (None, 1, 5));
    // It enters again, in this term and in another one.
    let mut stage = stage.crash();
    stage.enter("p1");
    stage.pass(10_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.flapping(), [1]);
    stage.exit("p1");
    stage.pass(10_000);
    assert!(stage.engine.is_quiet(), "nothing was sent of it");
    // Nothing is left of it once its sends have passed.
    stage.enter("p2");
    stage.complete(101);
    stage.pass(2 * DAY);
    let forgotten = stage.state.iter().rfind(|change| matches!(&change.key, StateKey::Member { profile, .. } if profile == "p1"));
    assert_eq!(forgotten.map(|change| &change.value), Some(&None));
}

#[test]
fn nothing_is_kept_of_who_was_erased() {
    let mut stage = Stage::five();
    stage.erase("p1");
    let look_up = stage.next_call();
    stage.contacts(&look_up, &[("p1", 4)]);
    let Request::Remove { .. } = stage.complete(100) else { panic!("a removal") };
    assert!(stage.engine.is_quiet());
    let member = stage.state.iter().rfind(|change| matches!(change.key, StateKey::Member { .. })).unwrap();
    assert_eq!(member.value, None);
}

#[test]
fn the_exports_of_an_account_share_what_may_be_sent_of_an_address() {
    let mut catalog = catalog();
    let other = Export { name: "all".into(), list: ListRef::Id(ListId::from_u128(8)), ..catalog.exports[0].clone() };
    catalog.exports.push(other);
    let mut stage = Stage::begin_with(catalog, Vec::new(), None, START);
    stage.enter("p1");
    for id in 1..=4 {
        stage.complete(id);
        if id == 2 {
            stage.update("B");
        }
    }
    stage.pass(HOUR);
    // Each would send it once more, and one may.
    stage.update("C");
    stage.complete(5);
    stage.pass(10_000);
    assert!(stage.calls.is_empty());
    assert_eq!(stage.flapping().iter().sum::<u64>(), 1);
    stage.pass(DAY);
    stage.complete(6);
    assert!(stage.engine.is_quiet());
}
