//! The load that is planned for: who changes, when, on which list.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use compact_str::CompactString;
use fastrand::Rng;

use super::Scenario;
use crate::model::{
    Text,
    catalog::ExportId,
    event::{ChangeKind, RecordContent, SegmentEvent, SourceRecord},
    position::{PartitionId, Position},
    time::UnixMillis,
    whole,
};

/// The one partition that the virtual source has.
pub(super) const PARTITION: PartitionId = PartitionId(0);

/// A profile's number. Each has one address, and is in one export.
pub(super) type Profile = u32;

pub(super) fn profile_id(profile: Profile) -> Text {
    let mut text = CompactString::default();
    // Writing to a string cannot fail.
    let _ok = write!(text, "p{profile}");
    text
}

pub(super) fn address(profile: Profile) -> Text {
    let mut text = CompactString::default();
    let _ok = write!(text, "p{profile}@example.com");
    text
}

/// The profile that an address was made for.
pub(super) fn profile_of(address: &str) -> Option<Profile> {
    address.strip_prefix('p')?.split_once('@')?.0.parse().ok()
}

/// One change before it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: UnixMillis,
    pub(super) export: ExportId,
    pub(super) profile: Profile,
    pub(super) enters: bool,
}

/// Arrivals in the order of their times: Poisson, by Zipf's law over the exports, with bursts between them.
#[derive(Debug)]
pub(super) struct Load {
    rng: Rng,
    per_ms: f64,
    entries: f64,
    /// For each export, the part of the changes that it and those before it get.
    cumulative: Vec<f64>,
    /// Members of each list that may leave, the oldest first.
    members: Vec<VecDeque<Profile>>,
    next_profile: Profile,
    next_offset: i64,
    segments: Vec<Text>,
    /// The next change of the steady load, in milliseconds since 1970; it has a fraction.
    steady_at: f64,
    bursts: VecDeque<(UnixMillis, u64)>,
    ends_at: UnixMillis,
    /// Profiles that flap, and when each changes next.
    flapping: VecDeque<(UnixMillis, Profile, ExportId, bool)>,
    flap_every_ms: i64,
}

/// Each export's part of the changes: Zipf(1).
#[must_use]
pub fn shares(exports: usize) -> Vec<f64> {
    let harmonic: f64 = (1..=exports).map(|rank| 1.0 / rank as f64).sum();
    (1..=exports).map(|rank| 1.0 / (rank as f64 * harmonic)).collect()
}

impl Load {
    pub(super) fn new(scenario: &Scenario, segments: Vec<Text>, began: UnixMillis) -> Self {
        let exports = segments.len();
        let shares = shares(exports);
        let cumulative = shares
            .iter()
            .scan(0.0, |sum, share| {
                *sum += share;
                Some(*sum)
            })
            .collect();
        let mut next_profile = 0;
        let members = shares
            .iter()
            .map(|share| {
                let count = Profile::try_from(whole(scenario.members as f64 * share)).unwrap_or(Profile::MAX);
                let first = next_profile;
                next_profile += count;
                (first..next_profile).collect()
            })
            .collect();
        let ends_at = began.plus_ms(scenario.duration_ms());
        let bursts = scenario.burst.map(|burst| (burst.first_after(began), burst.events)).into_iter().collect();
        let mut load = Self {
            rng: Rng::with_seed(scenario.seed),
            per_ms: scenario.events_per_second / 1_000.0,
            entries: scenario.entries,
            cumulative,
            members,
            next_profile,
            next_offset: i64::from(next_profile),
            segments,
            steady_at: began.0 as f64,
            bursts,
            ends_at,
            flapping: VecDeque::new(),
            flap_every_ms: 86_400_000,
        };
        load.flap(scenario, began);
        load.draw_steady();
        load
    }

    /// One percent of the profiles that come within a day change so many times a day, on and off.
    fn flap(&mut self, scenario: &Scenario, began: UnixMillis) {
        let Some(changes) = scenario.flaps_per_day.filter(|changes| *changes > 0) else { return };
        self.flap_every_ms = 86_400_000 / i64::from(changes);
        let profiles = whole(scenario.events_per_second * 864.0);
        let mut first: Vec<_> = (0..profiles)
            .map(|_| {
                let profile = self.next_profile;
                self.next_profile += 1;
                (began.plus_ms(self.rng.i64(0..self.flap_every_ms)), profile, self.draw_export(), true)
            })
            .collect();
        first.sort_unstable_by_key(|(at, profile, ..)| (*at, *profile));
        self.flapping = first.into();
    }

    /// Profiles that flap, and whether each is to be on its list now.
    pub(super) fn flapping(&self) -> BTreeMap<Profile, bool> {
        // What comes next is the opposite of what is.
        self.flapping.iter().map(|(_, profile, _, enters)| (*profile, !enters)).collect()
    }

    /// Members of each list before the first change.
    pub(super) fn members(&self) -> impl Iterator<Item = (ExportId, Profile)> + '_ {
        (0..).map(ExportId).zip(&self.members).flat_map(|(export, members)| members.iter().map(move |member| (export, *member)))
    }

    /// Where the source's reader begins.
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    fn draw_steady(&mut self) {
        let gap = if self.per_ms > 0.0 { -(1.0 - self.rng.f64()).ln() / self.per_ms } else { f64::INFINITY };
        self.steady_at += gap;
    }

    fn draw_export(&mut self) -> ExportId {
        let drawn = self.rng.f64();
        let index = self.cumulative.partition_point(|sum| *sum <= drawn).min(self.cumulative.len() - 1);
        ExportId::at(index)
    }

    /// When the next change comes; `None` when none does.
    pub(super) fn next_at(&self) -> Option<UnixMillis> {
        let steady = (self.steady_at < self.ends_at.0 as f64).then_some(UnixMillis(whole(self.steady_at).cast_signed()));
        let burst = self.bursts.front().map(|(at, _)| *at);
        let flap = self.flapping.front().map(|(at, ..)| *at);
        [steady, burst, flap].into_iter().flatten().min().filter(|at| *at < self.ends_at)
    }

    /// Takes the next change.
    pub(super) fn take(&mut self) -> Option<(Arrival, SourceRecord)> {
        let at = self.next_at()?;
        if self.flapping.front().is_some_and(|(flap, ..)| *flap == at) {
            let (_, profile, export, enters) = self.flapping.pop_front()?;
            self.flapping.push_back((at.plus_ms(self.flap_every_ms), profile, export, !enters));
            return Some(self.record(Arrival { at, export, profile, enters }));
        }
        match self.bursts.front_mut() {
            Some((burst, left)) if *burst == at => {
                *left -= 1;
                if *left == 0 {
                    self.bursts.pop_front();
                }
            }
            Some(_) | None => self.draw_steady(),
        }
        let export = self.draw_export();
        let wants_entry = self.rng.f64() < self.entries;
        let members = &mut self.members[usize::from(export.0)];
        let leaves = if wants_entry { None } else { members.pop_front() };
        let profile = leaves.unwrap_or_else(|| {
            let profile = self.next_profile;
            self.next_profile += 1;
            profile
        });
        if leaves.is_none() {
            self.members[usize::from(export.0)].push_back(profile);
        }
        Some(self.record(Arrival { at, export, profile, enters: leaves.is_none() }))
    }

    fn record(&mut self, arrival: Arrival) -> (Arrival, SourceRecord) {
        let profile = arrival.profile;
        let position = Position { partition: PARTITION, offset: self.next_offset };
        self.next_offset += 1;
        let event = SegmentEvent {
            profile_id: profile_id(profile),
            segment_id: Some(self.segments[usize::from(arrival.export.0)].clone()),
            change: if arrival.enters { ChangeKind::Entered } else { ChangeKind::Exited },
            occurred_at: None,
            values: Box::new([Some(address(profile))]),
        };
        (arrival, SourceRecord { position, timestamp: arrival.at, hash: 0, content: RecordContent::Event(event) })
    }
}
