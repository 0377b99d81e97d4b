//! The side of the vendor: requests leave, arrive and are answered.

use crate::constant_contact::{request, response};
use crate::model::{
    call::{Answer, Lost, NotSent, Outcome, Request},
    catalog::STAGING_PREFIX,
    time::UnixMillis,
};

use super::{Happening, World};
use crate::simulator::{
    constant_contact::{ActivityTime, BadEndings},
    faults::Fault,
    network::{self, Parcel},
    sometimes::Sometimes,
};

impl World {
    /// The first byte is to be written: by a process that still lives, within its lease.
    pub(super) fn leaves(&mut self, process: usize, mut parcel: Box<Parcel>) {
        parcel.left_ms = self.now_ms;
        if self.clock(process).mono > parcel.not_after {
            self.reached.mark(Sometimes::TooLateToLeave);
            if parcel.epoch < self.broker.epoch() {
                self.reached.mark(Sometimes::ZombieHeldBack);
            }
            self.answer(&parcel, 0, Outcome::NotSent(NotSent::TooLate), None);
            return;
        }
        let verdict = self.oracles.quota.sender(&self.catalog, parcel.connection, parcel.epoch);
        self.judge(verdict);
        if let Some((ms, outcome)) = network::lost(&mut self.rng, &parcel) {
            self.answer(&parcel, ms, outcome, None);
            return;
        }
        if parcel.fate == Some(Fault::ArrivesLate) {
            // Its sender knows nothing more of it; what was written may arrive until the deadline.
            let ms = self.rng.u64(1..parcel.deadline_ms);
            self.answer(&parcel, parcel.ways_ms.0.min(ms), Outcome::Unknown(Lost::Reset), None);
            self.on_the_way += 1;
            self.after(ms, Happening::Arrives(parcel));
            return;
        }
        self.after(parcel.ways_ms.0.min(parcel.deadline_ms), Happening::Arrives(parcel));
    }

    pub(super) fn answer(&mut self, parcel: &Parcel, after_ms: u64, outcome: Outcome, vendor_time: Option<UnixMillis>) {
        if let Some(process) = self.process_of(parcel.term)
            && let Some(term) = &mut self.processes[process].term
        {
            term.calls_open = term.calls_open.saturating_sub(1);
        }
        let answers = Happening::Answers { term: parcel.term, call: parcel.call, outcome: Box::new(outcome), vendor_time };
        self.after(after_ms, answers);
    }

    /// A request comes to the vendor, whether or not its sender still lives.
    pub(super) fn arrives(&mut self, parcel: Parcel) {
        let now = self.vendor_time();
        let verdict = self.oracles.quota.sender(&self.catalog, parcel.connection, parcel.epoch);
        self.judge(verdict);
        match self.oracles.quota.request(&self.catalog, parcel.connection, now) {
            Ok(true) => self.reached.mark(Sometimes::MidnightCrossed),
            Ok(false) => {}
            Err(broken) => self.judge(Err(broken)),
        }
        if self.process_of(parcel.term).is_none() {
            self.reached.mark(Sometimes::OrphanArrived);
        }
        let early = network::answered_before(&mut self.rng, parcel.fate, now);
        let response = early.unwrap_or_else(|| {
            let mut request = request::encode(&self.api, &parcel.request, self.now_ms);
            let bearer = http::HeaderValue::from_static("Bearer simulated");
            request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
            let response = self.handle(&parcel, now, &request);
            self.after_post(&parcel, &response);
            if let Request::Import { .. } = &parcel.request
                && self.vendors[usize::from(parcel.connection.0)].index_lag_s() > 0
            {
                self.reached.mark(Sometimes::IndexLagged);
            }
            if parcel.fate == Some(Fault::ServerErrorExecuted) { network::answered_after(now) } else { response }
        });
        if parcel.fate == Some(Fault::ArrivesLate) {
            self.on_the_way -= 1;
            return;
        }
        let outcome = response::decode(&parcel.request, &response);
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
        let starts = matches!(
            parcel.request,
            Request::Import { .. } | Request::Remove { .. } | Request::DeleteContacts { .. } | Request::DeleteList { .. }
        );
        let slow = starts && self.faults.strikes(&mut self.rng, Fault::SlowActivity);
        let times = if slow { self.rng.u64(5..60) } else { 1 };
        let fails = starts && self.faults.strikes(&mut self.rng, Fault::ActivityFails);
        let endings = if fails { bad_ending(&mut self.rng) } else { BadEndings::default() };
        let vendor = &mut self.vendors[usize::from(parcel.connection.0)];
        let usual = vendor.activity_time();
        vendor.set_activity_time(ActivityTime { base_ms: usual.base_ms * times, ..usual });
        vendor.set_bad_endings(endings);
        let response = vendor.handle(now, request);
        vendor.set_activity_time(usual);
        response
    }

    /// Looks at what a request that starts an activity did.
    pub(super) fn after_post(&mut self, parcel: &Parcel, response: &http::Response<bytes::Bytes>) {
        let (Request::Import { .. } | Request::Remove { .. } | Request::DeleteContacts { .. }) = &parcel.request else { return };
        let Outcome::Answered(Answer::Activity(activity)) = response::decode(&parcel.request, response) else { return };
        let open = self.vendors[usize::from(parcel.connection.0)].activities_open();
        let verdict = self.oracles.one_in_flight.started(&open, activity.activity_id);
        self.judge(verdict);
        if let Request::Import { name, lists, rows, .. } = &parcel.request {
            let (connection, now) = (usize::from(parcel.connection.0), self.vendor_time());
            let vendor = &self.vendors[connection];
            let staged = vendor.lists().iter().any(|(id, name)| lists.contains(id) && name.starts_with(STAGING_PREFIX));
            let verdict = self.oracles.opt_out.imported(vendor, connection, rows, now, staged);
            if !staged {
                self.oracles.flapping.imported(connection, name, rows, parcel.epoch, now);
            }
            self.judge(verdict);
        }
    }
}

/// One activity ends badly, after some, none or all of its work.
fn bad_ending(rng: &mut fastrand::Rng) -> BadEndings {
    let done_percent_max = if rng.bool() { 100 } else { 0 };
    let endings = BadEndings { done_percent_max, ..BadEndings::default() };
    match rng.u32(..3) {
        0 => BadEndings { failed_percent: 100, ..endings },
        1 => BadEndings { cancelled_percent: 100, ..endings },
        _ => BadEndings { timed_out_percent: 100, ..endings },
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
        Outcome::Answered(Answer::ContactCounts(counts)) => format!("{} contacts in the account", counts.active()),
        Outcome::Refused(refusal) => format!("{} {:?}", refusal.status, refusal.disposition),
        Outcome::Unknown(lost) => format!("{lost:?}"),
        Outcome::NotSent(not_sent) => format!("{not_sent:?}"),
    }
}
