//! What a refusal, or a call that failed, means beyond the call itself: who is held, why, and until when.

use crate::model::{
    call::{Disposition, Outcome, Refusal},
    catalog::{ApplicationId, ConnectionId},
    time::Now,
};

use super::{
    Engine,
    calls::{CallInFlight, Purpose, TokenState},
    reason::HoldReason,
};

/// A hold that a person has to end is tried again this often.
pub(super) const RETRY_HELD_MS: u64 = 300_000;
/// After midnight the vendor's counter may be late.
const AFTER_MIDNIGHT_MS: i64 = 900_000;

/// Whether the vendor has looked at a request that it refused: whoever says what is wrong with it has counted it.
pub(super) const fn was_counted(disposition: Disposition) -> bool {
    match disposition {
        Disposition::NotFound | Disposition::Conflict | Disposition::Split | Disposition::Invalid | Disposition::QueueFull => {
            true
        }
        Disposition::Throttled
        | Disposition::QuotaExceeded
        | Disposition::RefreshToken
        | Disposition::HoldConnection
        | Disposition::ServerError => false,
    }
}

impl Engine {
    /// Waits before a connection's next call, longer with each failure.
    pub(super) fn back_off(&mut self, now: Now, connection: ConnectionId) {
        let jitter = self.rng.u64(0..500);
        let state = self.connection_mut(connection);
        state.failures = state.failures.saturating_add(1);
        let wait = (500_u64 << state.failures.min(7)).min(60_000) + jitter;
        let until = now.mono.plus_ms(wait);
        state.held = Some((HoldReason::ApiUnreachable, until));
        self.wake_at(until);
    }

    /// The vendor says that the day is spent, though we counted less.
    fn hold_until_probe(&mut self, now: Now, application: ApplicationId) {
        let state = self.application_mut(application);
        let since_midnight =
            state.quota.vendor_time(now.mono).map_or(i64::MAX, |(earliest, _)| earliest.0 - earliest.day().start().0);
        let opens = state.quota.opens_at(now.mono).unwrap_or(now.mono.plus_ms(3_600_000));
        // Just after midnight the counter may be late: the day's age doubles from one try to the next. Later a hold is
        // probed hourly, at the price of one call.
        let until = if since_midnight < AFTER_MIDNIGHT_MS {
            now.mono.plus_ms(since_midnight.unsigned_abs().max(15_000))
        } else {
            opens.min(now.mono.plus_ms(3_600_000))
        };
        state.held = Some((HoldReason::QuotaSpentByOthers, until));
        self.wake_at(until);
    }

    /// A probe that told nothing of the day is followed by another one: at once if it never left.
    pub(super) fn probe_again(&mut self, now: Now, call: &CallInFlight, outcome: &Outcome) {
        let quota = &mut self.application_mut(call.application).quota;
        if !call.permit.charge.is_probe() || !quota.is_denied() {
            return;
        }
        match outcome {
            Outcome::NotSent(_) => quota.allow_probe(),
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Unknown(_) => self.hold_until_probe(now, call.application),
        }
    }

    /// What a refusal means beyond the call itself.
    pub(super) fn on_refused(&mut self, now: Now, call: &CallInFlight, refusal: &Refusal) {
        let retry_ms = refusal.retry_after_ms.unwrap_or(0).min(3_600_000);
        match refusal.disposition {
            Disposition::Throttled => {
                let until = now.mono.plus_ms(retry_ms.max(1_000));
                self.application_mut(call.application).pacer.pause(until);
                self.wake_at(until);
            }
            Disposition::QuotaExceeded => {
                self.application_mut(call.application).quota.exhaust(now.mono);
                self.hold_until_probe(now, call.application);
            }
            Disposition::QueueFull => {
                // The queue is the account's, whichever export met it.
                let until = self.connection_mut(call.connection).full_queue.told(now.mono, call.handed_over, retry_ms);
                self.wake_at(until);
            }
            Disposition::RefreshToken => {
                let state = self.connection_mut(call.connection);
                if call.handed_over >= state.token_at && matches!(state.token, TokenState::Valid { .. } | TokenState::Due { .. })
                {
                    state.token = TokenState::Rejected;
                    state.rejections += 1;
                    // A fresh token that is rejected again: the next one will hardly be better at once.
                    if state.rejections > 1 {
                        self.back_off(now, call.connection);
                    }
                }
            }
            Disposition::HoldConnection => {
                let until = now.mono.plus_ms(RETRY_HELD_MS);
                self.connection_mut(call.connection).held = Some((HoldReason::Forbidden, until));
                self.wake_at(until);
            }
            Disposition::Invalid | Disposition::NotFound => {
                let until = now.mono.plus_ms(RETRY_HELD_MS);
                let reason = if refusal.disposition == Disposition::NotFound {
                    HoldReason::ListMissing
                } else {
                    HoldReason::RequestRejected
                };
                match call.purpose {
                    // It is sent another way.
                    Purpose::Post(number) if self.tries_both(number) => return,
                    // What they are for goes on without what was asked for.
                    Purpose::Pool(..) | Purpose::Check(_) => return,
                    Purpose::Post(_)
                    | Purpose::Scan(_)
                    | Purpose::LookUp(..)
                    | Purpose::LookUpErased(..)
                    | Purpose::FindList(_)
                    | Purpose::CreateList(_)
                    | Purpose::ReadExisting(_) => {
                        if let Some(export) = self.export_of(&call.purpose) {
                            self.export_mut(export).held = Some((reason, until));
                        }
                    }
                    Purpose::PollOne(_) if refusal.disposition == Disposition::NotFound => {}
                    Purpose::PollOne(_)
                    | Purpose::PollAll(..)
                    | Purpose::Look(_)
                    | Purpose::Clear(_)
                    | Purpose::Suppressed(_)
                    | Purpose::LookUpSuppressed(..)
                    | Purpose::CountContacts(_) => {
                        self.back_off(now, call.connection);
                    }
                }
                self.wake_at(until);
            }
            Disposition::Conflict | Disposition::Split | Disposition::ServerError => {}
        }
    }
}
