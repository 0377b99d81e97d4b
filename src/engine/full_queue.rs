//! An account whose queue of activities the vendor says is full: nothing more is begun in it for a while, longer each time.
//! What is in the queue is read meanwhile.

use crate::model::time::Mono;

use super::{
    limits::{QUEUE_FULL_MAX_MS, QUEUE_FULL_MS},
    reason::HoldReason,
};

/// Whether an account's queue of activities is full, as far as the vendor has said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FullQueue {
    /// How often in a row it was.
    times: u32,
    told_at: Mono,
    until: Mono,
}

impl FullQueue {
    /// A request that was handed over at `asked_at` was refused for it; until when nothing is begun. Requests that were
    /// under way together tell the same once.
    pub(super) fn told(&mut self, now: Mono, asked_at: Mono, retry_ms: u64) -> Mono {
        if self.times == 0 || asked_at > self.told_at {
            let wait_ms = (QUEUE_FULL_MS << self.times.min(8)).min(QUEUE_FULL_MAX_MS);
            self.times = self.times.saturating_add(1);
            (self.told_at, self.until) = (now, now.plus_ms(wait_ms));
        }
        self.until = self.until.max(now.plus_ms(retry_ms));
        self.until
    }

    /// A request that was handed over at `asked_at` has begun something.
    pub(super) fn has_room(&mut self, asked_at: Mono) {
        if asked_at > self.told_at {
            *self = Self::default();
        }
    }

    /// Until when nothing is begun, if that lies ahead.
    pub(super) fn until(&self, now: Mono) -> Option<Mono> {
        (self.until > now).then_some(self.until)
    }

    /// Whether nobody knows that it has room by now: one request alone tries.
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.times > 0
    }

    /// Whether one batch is enough to try it; where that one cannot leave for long, others are cut all the same.
    pub(super) fn is_tried_by_one(&self, now: Mono) -> bool {
        self.is_in_doubt() && now < self.until.plus_ms(QUEUE_FULL_MS)
    }

    /// The hold that it is, as long as something is to be begun or it is too early to try.
    pub(super) fn hold(&self, now: Mono, begins: u32) -> Option<(HoldReason, Mono)> {
        let holds = self.is_in_doubt() && (begins > 0 || self.until > now);
        holds.then_some((HoldReason::ActivityQueueFull, self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::{FullQueue, Mono, QUEUE_FULL_MAX_MS};

    #[test]
    fn it_is_tried_more_and_more_rarely_and_refusals_side_by_side_count_once() {
        let mut queue = FullQueue::default();
        assert_eq!(queue.told(Mono(10_000), Mono(9_000), 0), Mono(40_000));
        assert_eq!(queue.told(Mono(10_500), Mono(9_100), 0), Mono(40_000), "it was under way when the first was refused");
        assert_eq!((queue.until(Mono(39_999)), queue.until(Mono(40_000))), (Some(Mono(40_000)), None));
        assert_eq!(queue.told(Mono(41_000), Mono(40_000), 0), Mono(101_000));
        assert_eq!(queue.told(Mono(102_000), Mono(101_000), 900_000), Mono(1_002_000), "the vendor said when");
        let mut now = Mono(2_000_000);
        for _ in 0..20 {
            let until = queue.told(now, now, 0);
            assert!(until.since_ms(now) <= QUEUE_FULL_MAX_MS);
            now = until;
        }
        queue.has_room(Mono(5_000));
        assert!(queue.is_in_doubt(), "that one was under way when the last was refused");
        assert!(queue.hold(now, 0).is_none() && queue.hold(now, 1).is_some());
        queue.has_room(now.plus_ms(1));
        assert!(!queue.is_in_doubt() && queue.hold(now, 1).is_none());
    }
}
