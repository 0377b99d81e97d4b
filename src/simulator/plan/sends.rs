//! What is sent of each profile, where some of them flap.

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::{
    load::{Arrival, Profile},
    measure::Distribution,
};
use crate::model::time::{DAY_MS, UnixMillis};

/// A profile that flaps.
#[derive(Debug, Default)]
struct Flapping {
    /// When it was imported into its list within the last 24 hours.
    imported_at: SmallVec<[UnixMillis; 5]>,
    /// Whether it was sent to be on the list, last.
    on: bool,
}

/// The sends of all profiles.
#[derive(Debug)]
pub(super) struct Sends {
    began: UnixMillis,
    flapping: HashMap<Profile, Flapping>,
    /// When each profile entered, in milliseconds since the run began; 0 where nobody waits.
    entered_ms: Vec<u32>,
    /// Most imports of one profile into its list within 24 hours.
    pub(super) in_a_day_max: usize,
    /// From the change to the request that has it: adds of profiles that do not flap.
    pub(super) waited: Distribution,
}

impl Sends {
    pub(super) fn new(flapping: &BTreeMap<Profile, bool>, began: UnixMillis) -> Self {
        Self {
            began,
            flapping: flapping.keys().map(|profile| (*profile, Flapping::default())).collect(),
            entered_ms: Vec::new(),
            in_a_day_max: 0,
            waited: Distribution::default(),
        }
    }

    fn since_began_ms(&self, at: UnixMillis) -> u32 {
        u32::try_from(at.since_ms(self.began)).unwrap_or(u32::MAX).max(1)
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        if arrival.enters && !self.flapping.contains_key(&arrival.profile) {
            let (place, at) = (arrival.profile as usize, self.since_began_ms(arrival.at));
            self.entered_ms.resize(self.entered_ms.len().max(place + 1), 0);
            self.entered_ms[place] = at;
        }
    }

    /// A request imports a profile: into its list, or to have it taken off.
    pub(super) fn send(&mut self, at: UnixMillis, profile: Profile, joins: bool) {
        let now_ms = self.since_began_ms(at);
        if let Some(known) = self.flapping.get_mut(&profile) {
            known.on = joins;
            if joins {
                known.imported_at.retain(|before| at.since_ms(*before) < DAY_MS.unsigned_abs());
                known.imported_at.push(at);
                self.in_a_day_max = self.in_a_day_max.max(known.imported_at.len());
            }
        } else if joins
            && let Some(entered_ms) = self.entered_ms.get_mut(profile as usize).map(std::mem::take)
            && entered_ms > 0
        {
            self.waited.add(u64::from(now_ms - entered_ms));
        }
    }

    /// Profiles that were not sent as they are wanted.
    pub(super) fn behind(&self, wanted: &BTreeMap<Profile, bool>) -> usize {
        let on = |profile: &Profile| self.flapping.get(profile).is_some_and(|known| known.on);
        wanted.iter().filter(|(profile, wanted)| on(profile) != **wanted).count()
    }
}
