//! [`Promise::QuotaNeverExceeded`]: requests are counted by application as they come, by the vendor's clock.

use std::collections::VecDeque;

use crate::engine::Promise;
use crate::model::{
    catalog::{Catalog, ConnectionId},
    time::{UnixMillis, UtcDay},
};

use crate::simulator::workload::Scenario;

use super::{Sight, Verdict};

/// What came with one API key.
#[derive(Debug, Default)]
struct Count {
    last_second: VecDeque<UnixMillis>,
    day: UtcDay,
    in_day: u64,
    /// The newest term that has sent something, by the epoch of its producer.
    sender: u32,
}

/// What came, by application: two accounts that share an API key share its limits.
#[derive(Debug)]
pub struct QuotaNeverExceeded {
    counts: Vec<Count>,
}

impl QuotaNeverExceeded {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let day = scenario.wall_start.day();
        let spent = scenario.spent.iter();
        Self { counts: spent.map(|calls| Count { day, in_day: u64::from(*calls), ..Count::default() }).collect() }
    }

    /// A request left, or came, that the term with this epoch sent. Limits are kept by one sender alone: once a newer
    /// term has sent something, nothing of an older one may be on its way.
    ///
    /// # Errors
    /// A newer term has sent something before.
    pub fn sender(&mut self, catalog: &Catalog, connection: ConnectionId, epoch: u32) -> Verdict {
        let id = catalog.connection(connection).application;
        let count = &mut self.counts[usize::from(id.0)];
        if epoch < count.sender {
            let name = &catalog.application(id).name;
            let detail = format!("{name}: a request of term {epoch} is on its way after one of term {}", count.sender);
            return Err((Promise::QuotaNeverExceeded, detail));
        }
        count.sender = epoch;
        Ok(())
    }

    /// A request came. True when it is the first of its day, and the day before had some too.
    ///
    /// # Errors
    /// It is above a limit.
    pub fn request(&mut self, catalog: &Catalog, connection: ConnectionId, now: UnixMillis) -> Result<bool, (Promise, String)> {
        let id = catalog.connection(connection).application;
        let (application, count) = (catalog.application(id), &mut self.counts[usize::from(id.0)]);
        let crossed = count.in_day > 0 && count.day.next() == now.day();
        if count.day != now.day() {
            (count.day, count.in_day) = (now.day(), 0);
        }
        count.in_day += 1;
        while count.last_second.front().is_some_and(|at| now.since_ms(*at) >= 1_000) {
            count.last_second.pop_front();
        }
        count.last_second.push_back(now);
        let in_second = count.last_second.len();
        if application.calls_per_second.is_some_and(|max| in_second > max as usize) {
            return Err((Promise::QuotaNeverExceeded, format!("{}: {in_second} requests in a second", application.name)));
        }
        if application.calls_per_day.is_some_and(|max| count.in_day > u64::from(max)) {
            return Err((Promise::QuotaNeverExceeded, format!("{}: request {} of a day", application.name, count.in_day)));
        }
        Ok(crossed)
    }
}

/// What the accounts themselves say.
pub(super) fn by_the_vendor(sight: &Sight<'_>) -> Verdict {
    for vendor in sight.vendors {
        if let Some(violation) = vendor.violation() {
            return Err((Promise::QuotaNeverExceeded, format!("{}: {}", violation.rule, violation.detail)));
        }
    }
    Ok(())
}
