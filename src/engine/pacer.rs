//! Calls per second: slots hold the limit, `governor` smooths within it.
//!
//! Why slots: spacing at the sender says nothing about arrival. A request takes a slot when it is sent and gives it
//! back a second after its answer was read, so that no second of the vendor's clock holds more arrivals than slots.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::Clock;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter, middleware::NoOpMiddleware};

use crate::model::time::Mono;

use super::planted::{Bug, planted};

/// A second, and a little for clocks that count in whole milliseconds.
pub(super) const SLOT_REST_MS: u64 = 1_005;

/// The engine's time as governor wants it.
#[derive(Debug, Clone, Default)]
struct PacerClock(Arc<AtomicU64>);

impl Clock for PacerClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

/// Which slot a call holds; give it back with [`Pacer::answered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Free,
    Taken,
    RestsUntil(Mono),
}

#[derive(Debug)]
struct Limited {
    slots: Vec<SlotState>,
    clock: PacerClock,
    smoother: RateLimiter<NotKeyed, InMemoryState, PacerClock, NoOpMiddleware<Nanos>>,
}

/// The pace of one API key.
#[derive(Debug)]
pub struct Pacer {
    limited: Option<Limited>,
    /// The whole key pauses until here (429 `throttled`).
    paused_until: Mono,
}

impl Pacer {
    /// `calls_per_second: None` is unlimited.
    #[must_use]
    pub fn new(calls_per_second: Option<u32>) -> Self {
        let limited = calls_per_second.and_then(NonZeroU32::new).map(|rate| {
            let clock = PacerClock::default();
            let quota = Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
            Limited {
                slots: vec![SlotState::Free; rate.get() as usize],
                smoother: RateLimiter::direct_with_clock(quota, clock.clone()),
                clock,
            }
        });
        Self { limited, paused_until: Mono(0) }
    }

    /// Takes a slot, or says when to ask again.
    ///
    /// # Errors
    /// The instant before which asking again is useless; `None` while all slots wait for answers.
    pub fn take(&mut self, now: Mono) -> Result<Slot, Option<Mono>> {
        if now < self.paused_until {
            return Err(Some(self.paused_until));
        }
        let Some(limited) = &mut self.limited else { return Ok(Slot(0)) };
        let mut earliest: Option<Mono> = None;
        let mut free = None;
        for (index, slot) in limited.slots.iter_mut().enumerate() {
            match *slot {
                SlotState::RestsUntil(until) if until <= now => *slot = SlotState::Free,
                SlotState::RestsUntil(until) => earliest = Some(earliest.map_or(until, |soonest| soonest.min(until))),
                SlotState::Free | SlotState::Taken => {}
            }
            if *slot == SlotState::Free && free.is_none() {
                free = Some(index);
            }
        }
        let Some(index) = free else { return Err(earliest) };
        limited.clock.0.store(now.0.saturating_mul(1_000_000), Ordering::Relaxed);
        match limited.smoother.check() {
            Ok(()) => {
                limited.slots[index] = SlotState::Taken;
                Ok(Slot(index))
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(limited.clock.now());
                let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
                Err(Some(now.plus_ms(ms)))
            }
        }
    }

    /// The call of this slot ended at `at` (for one without an answer: its deadline).
    pub fn answered(&mut self, slot: Slot, at: Mono) {
        if let Some(limited) = &mut self.limited {
            let rest = SlotState::RestsUntil(at.plus_ms(SLOT_REST_MS));
            limited.slots[slot.0] = if planted(Bug::BurstLimiter) { SlotState::Free } else { rest };
        }
    }

    /// Whether a second from now on nothing of what was sent counts any more: what was written to a connection that
    /// broke may arrive later than that.
    #[must_use]
    pub fn rests_within_a_second(&self, now: Mono) -> bool {
        let latest = now.plus_ms(SLOT_REST_MS);
        self.limited.as_ref().is_none_or(|limited| {
            limited.slots.iter().all(|slot| match *slot {
                SlotState::Free => true,
                SlotState::Taken => false,
                SlotState::RestsUntil(until) => until <= latest,
            })
        })
    }

    /// Nothing of this slot's call reached the vendor.
    pub fn unused(&mut self, slot: Slot) {
        if let Some(limited) = &mut self.limited {
            limited.slots[slot.0] = SlotState::Free;
        }
    }

    /// The vendor asks for less: nothing goes before `until`.
    pub fn pause(&mut self, until: Mono) {
        self.paused_until = self.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the way to the vendor and back takes, no second there sees more than the limit.
        #[test]
        fn no_second_at_the_vendor_holds_more_than_the_limit(
            trips in proptest::collection::vec((0u64..900, 0u64..900), 1..120),
            rate in 1u32..11,
        ) {
            let mut pacer = Pacer::new(Some(rate));
            let mut now = Mono(1_000_000);
            let mut arrivals: Vec<u64> = Vec::new();
            let mut answers: Vec<(Mono, Slot)> = Vec::new();
            for (there, back) in trips {
                let slot = loop {
                    answers.sort_by_key(|(at, _)| at.0);
                    while answers.first().is_some_and(|(at, _)| *at <= now) {
                        let (at, slot) = answers.remove(0);
                        pacer.answered(slot, at);
                    }
                    match pacer.take(now) {
                        Ok(slot) => break slot,
                        Err(Some(at)) => now = answers.first().map_or(at, |(answer, _)| (*answer).min(at)).max(now.plus_ms(1)),
                        Err(None) => now = answers[0].0.max(now.plus_ms(1)),
                    }
                };
                arrivals.push(now.0 + there);
                answers.push((now.plus_ms(there + back), slot));
            }
            arrivals.sort_unstable();
            for (index, first) in arrivals.iter().enumerate() {
                let in_second = arrivals[index..].iter().take_while(|at| **at <= first + 1_000).count();
                prop_assert!(in_second <= rate as usize, "{in_second} within a second of {first}");
            }
        }
    }

    #[test]
    fn unlimited_is_not_paced_but_can_be_paused() {
        let mut pacer = Pacer::new(None);
        assert!(pacer.take(Mono(0)).is_ok());
        pacer.pause(Mono(500));
        assert_eq!(pacer.take(Mono(1)), Err(Some(Mono(500))));
    }
}
