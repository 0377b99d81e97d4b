//! The side of the vendor: requests leave, arrive and are answered, and tokens are read and refreshed.

use crate::constant_contact::{request, response};
use crate::engine::{Input, input::TokenOutcome, output::ReadToken};
use crate::model::{
    call::{Answer, Lost, NotSent, Outcome, Request},
    time::UnixMillis,
};

use super::{Happening, StoredToken, World};
use crate::simulator::{
    constant_contact::ActivityTime,
    faults::Fault,
    network::{self, Parcel},
};

impl StoredToken {
    const fn valid(self) -> TokenOutcome {
        TokenOutcome::Valid { refresh_at: Some(self.refresh_at), expires_at: Some(self.expires_at) }
    }
}

impl World {
    /// The first byte is to be written: by a process that still lives, within its lease.
    pub(super) fn leaves(&mut self, mut parcel: Box<Parcel>) {
        let Some(term) = self.term.as_ref().filter(|_| parcel.term == self.terms) else {
            self.on_the_way -= 1;
            return;
        };
        parcel.left_ms = self.now_ms;
        if self.clock(term).mono > parcel.not_after {
            self.answer(&parcel, 0, Outcome::NotSent(NotSent::TooLate), None);
            return;
        }
        if let Some((ms, outcome)) = network::lost(&mut self.rng, &parcel) {
            self.answer(&parcel, ms, outcome, None);
            return;
        }
        self.after(parcel.ways_ms.0.min(parcel.deadline_ms), Happening::Arrives(parcel));
    }

    pub(super) fn answer(&mut self, parcel: &Parcel, after_ms: u64, outcome: Outcome, vendor_time: Option<UnixMillis>) {
        if parcel.term == self.terms
            && let Some(term) = &mut self.term
        {
            term.calls_open = term.calls_open.saturating_sub(1);
        }
        let answers = Happening::Answers { term: parcel.term, call: parcel.call, outcome: Box::new(outcome), vendor_time };
        self.after(after_ms, answers);
    }

    /// A request comes to the vendor, whether or not its sender still lives.
    pub(super) fn arrives(&mut self, parcel: Parcel) {
        let now = self.vendor_time();
        let verdict = self.oracles.quota.request(&self.catalog, parcel.connection, now);
        self.judge(verdict);
        let early = network::answered_before(&mut self.rng, parcel.fate, now);
        let response = early.unwrap_or_else(|| {
            let mut request = request::encode(&self.api, &parcel.request, self.now_ms);
            let bearer = http::HeaderValue::from_static("Bearer simulated");
            request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
            let response = self.handle(&parcel, now, &request);
            self.after_post(&parcel, &response);
            if parcel.fate == Some(Fault::ServerErrorExecuted) { network::answered_after(now) } else { response }
        });
        let mut outcome = response::decode(&parcel.request, &response);
        self.bad_endings.show(&mut outcome);
        let vendor_time = response::vendor_time(response.headers());
        let takes_ms = (self.now_ms - parcel.left_ms) + parcel.ways_ms.1;
        let rest_ms = parcel.deadline_ms.saturating_sub(self.now_ms - parcel.left_ms);
        if parcel.fate == Some(Fault::AnswerLost) && self.rng.bool() {
            self.answer(&parcel, parcel.ways_ms.1.min(rest_ms), Outcome::Unknown(Lost::Reset), None);
        } else if parcel.fate == Some(Fault::AnswerLost) || takes_ms > parcel.deadline_ms {
            self.answer(&parcel, rest_ms, Outcome::Unknown(Lost::Timeout), None);
        } else {
            self.answer(&parcel, parcel.ways_ms.1, outcome, vendor_time);
        }
    }

    /// The vendor answers; an activity that this request starts may take many times what it usually takes.
    fn handle(
        &mut self,
        parcel: &Parcel,
        now: UnixMillis,
        request: &http::Request<bytes::Bytes>,
    ) -> http::Response<bytes::Bytes> {
        let starts = matches!(parcel.request, Request::Import { .. } | Request::Remove { .. });
        let slow = starts && self.faults.strikes(&mut self.rng, Fault::SlowActivity);
        let times = if slow { self.rng.u64(5..60) } else { 1 };
        let vendor = &mut self.vendors[usize::from(parcel.connection.0)];
        let usual = vendor.activity_time();
        vendor.set_activity_time(ActivityTime { base_ms: usual.base_ms * times, ..usual });
        let response = vendor.handle(now, request);
        vendor.set_activity_time(usual);
        response
    }

    /// Looks at what a request that starts an activity did, and decides how the activity will end.
    pub(super) fn after_post(&mut self, parcel: &Parcel, response: &http::Response<bytes::Bytes>) {
        let (Request::Import { .. } | Request::Remove { .. }) = &parcel.request else { return };
        let Outcome::Answered(Answer::Activity(activity)) = response::decode(&parcel.request, response) else { return };
        if self.faults.strikes(&mut self.rng, Fault::ActivityFails) {
            self.bad_endings.add(&mut self.rng, activity.activity_id);
        }
        let open = self.vendors[usize::from(parcel.connection.0)].activities_open();
        let verdict = self.oracles.one_in_flight.started(&open, activity.activity_id);
        self.judge(verdict);
        if let Request::Import { rows, .. } = &parcel.request {
            let (connection, now) = (usize::from(parcel.connection.0), self.vendor_time());
            let verdict = self.oracles.opt_out.imported(&self.vendors[connection], connection, rows, now);
            self.judge(verdict);
        }
    }

    /// A request to the token endpoint counts like any other.
    fn token_request(&mut self, read: ReadToken) {
        let now = self.vendor_time();
        let verdict = self.oracles.quota.request(&self.catalog, read.connection, now);
        self.judge(verdict);
    }

    /// The token store is read, and the token endpoint asked where it may be and has to be.
    pub(super) fn token(&mut self, read: ReadToken) {
        let Some(term) = &self.term else { return };
        let unavailable = self.faults.strikes(&mut self.rng, Fault::TokenUnavailable);
        let refreshes = self.catalog.connection(read.connection).refreshes;
        let now = self.clock(term);
        let stored = self.tokens[usize::from(read.connection.0)].filter(|_| !read.rejected);
        let leased = now.mono <= read.not_after;
        let token = if unavailable {
            let requested = read.may_refresh && leased && self.rng.bool();
            if requested {
                self.token_request(read);
            }
            TokenOutcome::Unavailable { requested }
        } else if !refreshes {
            TokenOutcome::Valid { refresh_at: None, expires_at: None }
        } else {
            match stored.filter(|stored| stored.expires_at > now.wall) {
                Some(stored) if !read.may_refresh || stored.refresh_at > now.wall => stored.valid(),
                Some(_) | None if !read.may_refresh || !leased => TokenOutcome::Unavailable { requested: false },
                Some(_) | None => {
                    self.token_request(read);
                    let fresh = StoredToken {
                        refresh_at: now.wall.plus_ms(self.token_life_ms / 5 * 4),
                        expires_at: now.wall.plus_ms(self.token_life_ms),
                    };
                    self.tokens[usize::from(read.connection.0)] = Some(fresh);
                    fresh.valid()
                }
            }
        };
        self.mutate(Some(Input::TokenRead { refresh: read.refresh, connection: read.connection, token }));
    }
}

/// An outcome in a few words, without anything personal.
pub(super) fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(Answer::Activity(activity)) => format!("activity {} {:?}", activity.activity_id, activity.state),
        Outcome::Answered(Answer::Activities(page)) => format!("{} activities", page.items.len()),
        Outcome::Answered(Answer::Contacts(page)) => format!("{} contacts", page.items.len()),
        Outcome::Answered(Answer::Lists(page)) => format!("{} lists", page.items.len()),
        Outcome::Answered(Answer::List(list)) => format!("list {}", list.list_id),
        Outcome::Refused(refusal) => format!("{} {:?}", refusal.status, refusal.disposition),
        Outcome::Unknown(lost) => format!("{lost:?}"),
        Outcome::NotSent(not_sent) => format!("{not_sent:?}"),
    }
}
