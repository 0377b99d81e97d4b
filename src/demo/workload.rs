//! A stream of segment changes as a platform produces them, by seed: nothing of it is kept but what is still to come of
//! a few thousand profiles.
//!
//! Each hundred profiles hold the same number of each kind, in an order that differs: so that a small run shows all that
//! a large one does. First come profiles of the segment that people will leave; then everybody else; then the exits of
//! the first, when their entries have been applied; then some of them enter again, when the exits have been.

use std::collections::{BTreeMap, VecDeque};

use crate::model::event::ChangeKind;

use super::person::mix;

/// A segment's number in [`Segments::names`].
pub type SegmentNumber = u8;

/// The most segments that a workload may have.
pub const SEGMENTS_MAX: u8 = 200;
/// The fewest profiles among which each kind is found.
pub const PROFILES_MIN: u32 = 200;
/// A duplicate, an update or a second segment follows after at most so many records.
const FOLLOWS_WITHIN: u64 = 2_000;
/// Of a hundred profiles.
const BLOCK: u32 = 100;

/// The segments, and what they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// All of them.
    pub names: Vec<String>,
    /// Where most profiles are.
    pub homes: Vec<Home>,
    /// The segment that is entered first and left later.
    pub leaving: SegmentNumber,
    /// A segment that no list is made of.
    pub unrouted: SegmentNumber,
}

/// A segment that profiles enter to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// The segment.
    pub segment: SegmentNumber,
    /// A second one that some enter as well.
    pub sibling: Option<SegmentNumber>,
    /// How many profiles it has, against other homes.
    pub weight: u32,
}

impl Segments {
    /// `segment-1` to `segment-<count>`, each with the next as its sibling; the last is the one that people leave.
    /// A further one, `segment-unknown`, is there to be filtered.
    #[must_use]
    pub fn numbered(count: u8) -> Self {
        let count = count.clamp(1, SEGMENTS_MAX);
        let homes = (count - 1).max(1);
        let names = (1..=count).map(|number| format!("segment-{number}")).chain(["segment-unknown".to_owned()]).collect();
        let sibling = |segment: u8| Some(segment ^ 1).filter(|other| *other < homes);
        Self {
            names,
            homes: (0..homes).map(|segment| Home { segment, sibling: sibling(segment), weight: 1 }).collect(),
            leaving: count - 1,
            unrouted: count,
        }
    }

    fn home(&self, chance: u64) -> Home {
        let all: u32 = self.homes.iter().map(|home| home.weight).sum();
        let mut at = u32::try_from(chance % u64::from(all.max(1))).unwrap_or(0);
        for home in &self.homes {
            if at < home.weight {
                return *home;
            }
            at -= home.weight;
        }
        self.homes[0]
    }
}

/// What a workload is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Distinct profiles.
    pub profiles: u32,
    /// How many of them enter the segment that is left later; the rest are at home elsewhere.
    pub leavers: u32,
    /// Decides everything else.
    pub seed: u64,
    /// The segments.
    pub segments: Segments,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A record to write.
    Record(Record),
    /// What was written so far is a milestone; they are numbered from 0.
    Milestone,
    /// What follows means what it is meant to mean only when everything up to this milestone has been applied.
    Await(usize),
}

/// A record to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The profile, which is the record's key.
    pub profile: u32,
    /// The event's number; a duplicate has that of the first.
    pub event: u64,
    /// What it says.
    pub content: Content,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A segment change.
    Change(Change),
    /// Bytes that nobody can decode.
    Undecodable(Undecodable),
}

/// A segment change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// In which segment; an update may be without one.
    pub segment: Option<SegmentNumber>,
    /// What it tells of the profile.
    pub fields: Fields,
}

/// What an event tells of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Nothing: the profile is null.
    Absent,
    /// All but an address.
    WithoutAddress,
    /// All of it, with the name in this version.
    Complete(u8),
}

/// Ways of being undecodable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undecodable {
    /// Some text.
    Noise,
    /// An event that ends in its middle.
    Truncated,
    /// An event of another profile than the key says.
    ForeignKey,
    /// No byte at all, which is not the same as no value.
    Empty,
}

impl Undecodable {
    const ALL: [Self; 4] = [Self::Noise, Self::Truncated, Self::ForeignKey, Self::Empty];
}

/// What becomes of a profile, by its place among a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Enters and leaves at once.
    Passing,
    /// Enters, leaves and enters again at once.
    Returning,
    /// Has no address.
    Unreachable,
    /// Has none at first.
    ReachableLater,
    /// Its entry is delivered twice.
    Duplicated,
    /// Changes its name soon.
    Renamed,
    /// Is seen in a segment that no list is made of.
    SeenElsewhere,
    /// Changes its name much later.
    RenamedLate,
    /// Just enters; a second segment may follow.
    Settling,
}

impl Fate {
    const fn of(place: u32) -> Self {
        match place {
            0..2 => Self::Passing,
            2 => Self::Returning,
            3 => Self::Unreachable,
            4 => Self::ReachableLater,
            5..8 => Self::Duplicated,
            8..13 => Self::Renamed,
            13..16 => Self::SeenElsewhere,
            16 => Self::RenamedLate,
            _ => Self::Settling,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    LeaversEnter(u32),
    Everybody(u32),
    Following,
    LeaversExit(u32),
    LateNames(u32),
    LeaversReturn(u32),
    Ended,
}

/// The stream.
#[derive(Debug)]
pub struct Workload {
    plan: Plan,
    phase: Phase,
    /// Records that stand together.
    burst: VecDeque<Record>,
    /// Records that follow later, by when and in which order.
    follow: BTreeMap<(u64, u64), Record>,
    followers: u64,
    steps: VecDeque<Step>,
    records: u64,
    events: u64,
    undecodable_every: u32,
}

impl Workload {
    /// The stream of a plan, from its beginning.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let plan = Plan { leavers: plan.leavers.min(plan.profiles), ..plan };
        let others = plan.profiles - plan.leavers;
        // A few, whatever the size: more would be a broken producer, which is another story.
        let undecodable = (others / 20_000).clamp(4, 50);
        Self {
            phase: Phase::LeaversEnter(0),
            burst: VecDeque::new(),
            follow: BTreeMap::new(),
            followers: 0,
            steps: VecDeque::new(),
            records: 0,
            events: 0,
            undecodable_every: (others / undecodable).max(1),
            plan,
        }
    }

    /// How many records there are in all.
    #[must_use]
    pub fn len_of(plan: &Plan) -> u64 {
        Self::new(plan.clone()).filter(|step| matches!(step, Step::Record(_))).count() as u64
    }

    fn record(&mut self, profile: u32, content: Content) -> Record {
        self.events += 1;
        Record { profile, event: self.events, content }
    }

    fn change(&mut self, profile: u32, kind: ChangeKind, segment: Option<SegmentNumber>, fields: Fields) -> Record {
        self.record(profile, Content::Change(Change { kind, segment, fields }))
    }

    fn enter(&mut self, profile: u32, segment: SegmentNumber, fields: Fields) {
        let record = self.change(profile, ChangeKind::Entered, Some(segment), fields);
        self.burst.push_back(record);
    }

    /// An exit needs no profile: half of them have none.
    fn exit(&mut self, profile: u32, segment: SegmentNumber) -> Record {
        let fields = if profile.is_multiple_of(2) { Fields::Absent } else { Fields::Complete(0) };
        self.change(profile, ChangeKind::Exited, Some(segment), fields)
    }

    fn exit_now(&mut self, profile: u32, segment: SegmentNumber) {
        let record = self.exit(profile, segment);
        self.burst.push_back(record);
    }

    fn follows(&mut self, after: u64, record: Record) {
        self.followers += 1;
        self.follow.insert((self.records + 1 + after, self.followers), record);
    }

    /// Which of a hundred this profile is: each block in an order of its own.
    fn place(&self, profile: u32) -> u32 {
        let (block, index) = (profile / BLOCK, profile % BLOCK);
        let shift = u32::try_from(mix(self.plan.seed ^ 0x5eed, block) % u64::from(BLOCK)).unwrap_or(0);
        // 37 has no divisor in common with 100, so that each place is taken once.
        (index * 37 + shift) % BLOCK
    }

    fn home(&self, profile: u32) -> Home {
        self.plan.segments.home(mix(self.plan.seed, profile) >> 32)
    }

    /// All that becomes of one profile.
    fn live(&mut self, profile: u32) {
        let chance = mix(self.plan.seed ^ 0xfa7e, profile);
        let after = chance % FOLLOWS_WITHIN;
        let (home, whole) = (self.home(profile), Fields::Complete(0));
        let other = profile - self.plan.leavers;
        if other % self.undecodable_every == self.undecodable_every / 2 {
            let kind = Undecodable::ALL[(other / self.undecodable_every) as usize % Undecodable::ALL.len()];
            let record = self.record(profile, Content::Undecodable(kind));
            self.burst.push_back(record);
        }
        match Fate::of(self.place(profile)) {
            Fate::Passing => {
                self.enter(profile, home.segment, whole);
                if let Some(sibling) = home.sibling {
                    self.enter(profile, sibling, whole);
                    self.exit_now(profile, sibling);
                }
                self.exit_now(profile, home.segment);
            }
            Fate::Returning => {
                self.enter(profile, home.segment, whole);
                self.exit_now(profile, home.segment);
                self.enter(profile, home.segment, whole);
            }
            Fate::Unreachable => self.enter(profile, home.segment, Fields::WithoutAddress),
            Fate::ReachableLater => {
                self.enter(profile, home.segment, Fields::WithoutAddress);
                let record = self.change(profile, ChangeKind::Updated, Some(home.segment), whole);
                self.follows(after, record);
            }
            Fate::Duplicated => {
                let record = self.change(profile, ChangeKind::Entered, Some(home.segment), whole);
                self.burst.push_back(record);
                self.follows(after, record);
            }
            Fate::Renamed => {
                self.enter(profile, home.segment, whole);
                let record = self.change(profile, ChangeKind::Updated, Some(home.segment), Fields::Complete(1));
                self.follows(after, record);
            }
            Fate::SeenElsewhere => {
                self.enter(profile, self.plan.segments.unrouted, whole);
                self.enter(profile, home.segment, whole);
            }
            Fate::RenamedLate => self.enter(profile, home.segment, whole),
            Fate::Settling => {
                self.enter(profile, home.segment, whole);
                if let Some(sibling) = home.sibling.filter(|_| (chance >> 16).is_multiple_of(2)) {
                    let record = self.change(profile, ChangeKind::Entered, Some(sibling), whole);
                    self.follows(after, record);
                    if (chance >> 17).is_multiple_of(2) {
                        // One of two is left: the profile stays on the list.
                        let left = if (chance >> 18).is_multiple_of(2) { sibling } else { home.segment };
                        let record = self.exit(profile, left);
                        self.follows(after + 1 + (chance >> 20) % FOLLOWS_WITHIN, record);
                    }
                }
            }
        }
    }

    fn next_record(&mut self) -> Option<Record> {
        let due = |at: u64, first: Option<(&(u64, u64), &Record)>| first.is_some_and(|((when, _), _)| *when <= at);
        let record = match self.burst.pop_front() {
            Some(record) => record,
            // What stands together is not torn apart.
            None if due(self.records, self.follow.first_key_value()) => self.follow.pop_first()?.1,
            None => return None,
        };
        self.records += 1;
        Some(record)
    }

    /// Goes on by one profile, or to the next phase.
    fn advance(&mut self) {
        let (leavers, profiles, leaving) = (self.plan.leavers, self.plan.profiles, self.plan.segments.leaving);
        self.phase = match self.phase {
            Phase::LeaversEnter(profile) if profile < leavers => {
                self.enter(profile, leaving, Fields::Complete(0));
                Phase::LeaversEnter(profile + 1)
            }
            Phase::LeaversEnter(_) => {
                self.steps.push_back(Step::Milestone);
                Phase::Everybody(leavers)
            }
            Phase::Everybody(profile) if profile < profiles => {
                self.live(profile);
                Phase::Everybody(profile + 1)
            }
            Phase::Everybody(_) => Phase::Following,
            Phase::Following => match self.follow.pop_first() {
                Some((_, record)) => {
                    self.burst.push_back(record);
                    Phase::Following
                }
                None => {
                    self.steps.push_back(Step::Await(0));
                    Phase::LeaversExit(0)
                }
            },
            Phase::LeaversExit(profile) if profile < leavers => {
                self.exit_now(profile, leaving);
                Phase::LeaversExit(profile + 1)
            }
            Phase::LeaversExit(_) => {
                self.steps.push_back(Step::Milestone);
                Phase::LateNames(leavers)
            }
            Phase::LateNames(profile) if profile < profiles => {
                if Fate::of(self.place(profile)) == Fate::RenamedLate {
                    // Half of them without a segment: such an update concerns every list that the profile is on.
                    let segment = Some(self.home(profile).segment).filter(|_| (profile / BLOCK).is_multiple_of(2));
                    let record = self.change(profile, ChangeKind::Updated, segment, Fields::Complete(1));
                    self.burst.push_back(record);
                }
                Phase::LateNames(profile + 1)
            }
            Phase::LateNames(_) => {
                self.steps.push_back(Step::Await(1));
                Phase::LeaversReturn(0)
            }
            Phase::LeaversReturn(profile) if profile < leavers => {
                self.enter(profile, leaving, Fields::Complete(0));
                Phase::LeaversReturn(profile + 10)
            }
            Phase::LeaversReturn(_) | Phase::Ended => Phase::Ended,
        };
    }
}

impl Iterator for Workload {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(record) = self.next_record() {
                return Some(Step::Record(record));
            }
            if let Some(step) = self.steps.pop_front() {
                return Some(step);
            }
            if self.phase == Phase::Ended {
                return None;
            }
            self.advance();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::demo) fn plan(profiles: u32, seed: u64) -> Plan {
        Plan { profiles, leavers: profiles / 4, seed, segments: Segments::numbered(4) }
    }

    fn records(plan: Plan) -> Vec<Record> {
        let record = |step| match step {
            Step::Record(record) => Some(record),
            Step::Milestone | Step::Await(_) => None,
        };
        Workload::new(plan).filter_map(record).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_stream_and_another_seed_another() {
        let steps = |seed| Workload::new(plan(1_000, seed)).collect::<Vec<_>>();
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
        assert_eq!(Workload::len_of(&plan(1_000, 1)), records(plan(1_000, 1)).len() as u64);
    }

    /// One profile's changes, each with its event's number.
    type Heard = [(u64, Change)];

    #[test]
    fn a_small_workload_has_each_kind() {
        let records = records(plan(PROFILES_MIN, 3));
        let profiles: std::collections::BTreeSet<u32> = records.iter().map(|record| record.profile).collect();
        assert_eq!(profiles.len(), PROFILES_MIN as usize, "every profile is heard of");
        let changes = |profile: u32| {
            let of = records.iter().filter(move |record| record.profile == profile);
            of.filter_map(|record| match record.content {
                Content::Change(change) => Some((record.event, change)),
                Content::Undecodable(_) => None,
            })
            .collect::<Vec<_>>()
        };
        let any = |test: &dyn Fn(&Heard) -> bool| profiles.iter().any(|profile| test(&changes(*profile)));
        let kinds = |of: &Heard| of.iter().map(|(_, change)| change.kind).collect::<Vec<_>>();
        let (entered, exited, updated) = (ChangeKind::Entered, ChangeKind::Exited, ChangeKind::Updated);
        assert!(any(&|of| kinds(of) == [entered]), "an entry alone");
        assert!(any(&|of| kinds(of) == [entered, exited]), "an exit that cancels, or a later one");
        assert!(any(&|of| kinds(of) == [entered, exited, entered]), "a re-entry");
        assert!(any(&|of| of.len() == 2 && of[0] == of[1]), "a duplicate");
        assert!(any(&|of| kinds(of) == [entered, updated]), "an update");
        assert!(any(&|of| of.iter().any(|(_, change)| change.kind == updated && change.segment.is_none())), "of every list");
        assert!(any(&|of| kinds(of) == [entered, entered, exited] && of[0].1.segment != of[1].1.segment), "one of two is left");
        assert!(any(&|of| of.iter().any(|(_, change)| change.segment == Some(4))), "an unknown segment");
        assert!(any(&|of| of.len() == 1 && of[0].1.fields == Fields::WithoutAddress), "no address");
        assert!(any(&|of| of.iter().any(|(_, change)| change.kind == exited && change.fields == Fields::Absent)), "a bare exit");
        let undecodable = records.iter().filter_map(|record| match record.content {
            Content::Undecodable(kind) => Some(kind),
            Content::Change(_) => None,
        });
        assert_eq!(undecodable.collect::<std::collections::BTreeSet<_>>(), Undecodable::ALL.into_iter().collect());
    }

    #[test]
    fn what_is_left_was_entered_and_waits_for_its_milestone() {
        let (mut in_segment, mut milestones, mut awaited) = (std::collections::BTreeSet::new(), 0, Vec::new());
        for step in Workload::new(plan(1_000, 5)) {
            match step {
                Step::Milestone => milestones += 1,
                Step::Await(milestone) => {
                    assert!(milestone < milestones, "only what was reached is waited for");
                    awaited.push(milestone);
                }
                Step::Record(Record { profile, content: Content::Change(change), .. }) => match (change.kind, change.segment) {
                    (ChangeKind::Entered, Some(segment)) => drop(in_segment.insert((profile, segment))),
                    (ChangeKind::Exited, Some(segment)) => {
                        assert!(in_segment.remove(&(profile, segment)), "{profile} leaves what it is not in");
                        assert!(segment != 3 || awaited == [0], "the later exits come after the wait");
                    }
                    (ChangeKind::Updated, _) | (_, None) => {}
                },
                Step::Record(_) => {}
            }
        }
        assert_eq!(awaited, [0, 1]);
    }
}
