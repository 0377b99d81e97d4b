//! What the vendor saw: for tests, for the demo's summary, for whoever tries the stage out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::limits::Violation;
use crate::model::{ListId, Text};

/// `GET /_simulator/report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Requests to the API and to the token endpoint.
    pub requests: u64,
    /// The same by what they were for, in the words of the stage's metrics, and `other`.
    pub requests_by_kind: BTreeMap<&'static str, u64>,
    /// Answers that were not 2xx, by status. For tests; not part of the report that is served.
    #[serde(skip)]
    pub refused_by_status: BTreeMap<u16, u64>,
    /// Most requests with one API key that arrived within any second.
    pub max_in_a_second: u64,
    /// Requests to the API by day of UTC.
    pub requests_by_day: BTreeMap<String, u64>,
    /// Requests above a limit: the first thousand.
    pub violations: Vec<Violation>,
    /// Requests above a limit: all of them. For tests; not part of the report that is served.
    #[serde(skip)]
    pub violations_count: u64,
    /// Activities by state.
    pub activities_by_state: BTreeMap<&'static str, u64>,
    /// Contacts in the account, deleted ones among them.
    pub contacts: u64,
    /// The same by status. For tests; not part of the report that is served.
    #[serde(skip)]
    pub contacts_by_status: BTreeMap<&'static str, u64>,
    /// The account's lists.
    pub lists: Vec<ListReport>,
}

/// A list in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListReport {
    /// Its id.
    pub list_id: ListId,
    /// Its name.
    pub name: Text,
    /// How many contacts are on it.
    pub members: u64,
}
