//! What the vendor does with calls, as far as a plan needs it: how long activities take, what they count, and which calls
//! are refused. It answers words, not HTTP: a plan is about time and calls, and a day has tens of millions of rows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;

use super::{
    VendorKind,
    load::{self, Profile},
};
use crate::engine::limits::ACTIVITY_SHOWN_MS;
use crate::model::{
    ActivityId, ContactId, ListId, Text,
    activity::{Activity, ActivityCounts, ActivityState},
    call::{
        Answer, CallKind, Contact, ContactCounts, ContactStatus, Cursor, Disposition, List, Outcome, Page, Refusal,
        RemovalSource, Request,
    },
    time::{UnixMillis, UtcDay},
    whole,
};

/// An activity takes this long, and [`ROW_US`] for each row more.
pub(super) const START_MS: u64 = 20_000;
/// A second for 1,000 rows.
pub(super) const ROW_US: u64 = 1_000;
/// Items on a page.
const PAGE: usize = 500;

/// What an activity does when it is done.
#[derive(Debug)]
enum Work {
    Import { lists: Vec<ListId>, profiles: Vec<Profile> },
    Remove { lists: Vec<ListId>, profiles: Vec<Profile>, rows: u64 },
    Nothing,
}

#[derive(Debug)]
struct Job {
    id: ActivityId,
    file_name: Option<Text>,
    created_at: UnixMillis,
    completed_at: UnixMillis,
    rows: u64,
}

/// One account.
#[derive(Debug, Default)]
struct Account {
    /// Oldest first; old ones are forgotten.
    jobs: VecDeque<Job>,
    /// What those that still run will have done, by their ends.
    open: BTreeMap<(UnixMillis, ActivityId), Work>,
    /// When the last activity ends, for a vendor that works on one at a time.
    busy_until: UnixMillis,
    lists: BTreeMap<ListId, ListState>,
}

#[derive(Debug, Default)]
struct ListState {
    name: Text,
    count: u64,
    /// Its members; kept where somebody may ask for them.
    members: BTreeSet<Profile>,
}

/// The vendor with one API key.
#[derive(Debug)]
pub(super) struct Vendor {
    rng: Rng,
    kind: VendorKind,
    accounts: Vec<Account>,
    next_id: u128,
    calls_per_day: Option<u64>,
    day: UtcDay,
    /// Requests of the day, those of others among them.
    pub(super) calls_today: u64,
    /// Members are kept by number, so that they can be listed.
    keeps_members: bool,
    recent: VecDeque<UnixMillis>,
    /// Calls by kind.
    pub(super) calls: BTreeMap<CallKind, u64>,
    /// Most calls of ours in a day of UTC.
    pub(super) calls_in_a_day_max: u64,
    ours_today: u64,
    /// Most calls in a second.
    pub(super) calls_in_a_second_max: usize,
    /// Calls that were refused because the day was spent, by time.
    pub(super) refused_at: Vec<UnixMillis>,
    /// Most activities of an account that were open at once.
    pub(super) open_max: usize,
    /// Calls by hour of the run.
    pub(super) calls_by_hour: BTreeMap<i64, u64>,
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page { items, next: None }
}

impl Vendor {
    pub(super) fn new(
        kind: VendorKind,
        accounts: usize,
        calls_per_day: Option<u32>,
        spent: u32,
        began: UnixMillis,
        keeps_members: bool,
        seed: u64,
    ) -> Self {
        Self {
            rng: Rng::with_seed(seed ^ 0x76),
            kind,
            accounts: (0..accounts).map(|_| Account::default()).collect(),
            next_id: 1 << 64,
            calls_per_day: calls_per_day.map(u64::from),
            day: began.day(),
            calls_today: u64::from(spent),
            keeps_members,
            recent: VecDeque::new(),
            calls: BTreeMap::new(),
            calls_in_a_day_max: 0,
            ours_today: 0,
            calls_in_a_second_max: 0,
            refused_at: Vec::new(),
            open_max: 0,
            calls_by_hour: BTreeMap::new(),
        }
    }

    /// Others spend so many of the day's calls.
    pub(super) fn spent_by_others(&mut self, calls: u64) {
        self.calls_today += calls;
    }

    /// A list's members before the run.
    pub(super) fn put_on_list(&mut self, account: usize, list: ListId, profile: Profile) {
        let state = self.accounts[account].lists.entry(list).or_default();
        state.count += 1;
        if self.keeps_members {
            state.members.insert(profile);
        }
    }

    /// A list without members, from before the run.
    pub(super) fn make_list(&mut self, account: usize, list: ListId, name: Text) {
        self.accounts[account].lists.entry(list).or_default().name = name;
    }

    /// How many are on a list.
    pub(super) fn members_of(&mut self, now: UnixMillis, account: usize, list: ListId) -> u64 {
        self.finish(now, account);
        self.accounts[account].lists.get(&list).map_or(0, |list| list.count)
    }

    fn id(&mut self) -> u128 {
        self.next_id += 1;
        self.next_id
    }

    /// One call arrives.
    pub(super) fn answer(&mut self, now: UnixMillis, account: usize, request: Request) -> Outcome {
        if now.day() > self.day {
            self.day = now.day();
            self.calls_today = 0;
            self.ours_today = 0;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now.since_ms(*first) >= 1_000) {
            self.recent.pop_front();
        }
        self.calls_in_a_second_max = self.calls_in_a_second_max.max(self.recent.len());
        *self.calls.entry(request.kind()).or_default() += 1;
        *self.calls_by_hour.entry(now.0.div_euclid(3_600_000)).or_default() += 1;
        self.ours_today += 1;
        self.calls_in_a_day_max = self.calls_in_a_day_max.max(self.ours_today);
        if self.calls_per_day.is_some_and(|limit| self.calls_today >= limit) {
            self.refused_at.push(now);
            return Outcome::Refused(Refusal {
                status: 429,
                error_key: Some(Text::const_new("quota_exceeded")),
                disposition: Disposition::QuotaExceeded,
                retry_after_ms: None,
            });
        }
        self.calls_today += 1;
        self.finish(now, account);
        Outcome::Answered(self.do_as_asked(now, account, request))
    }

    fn do_as_asked(&mut self, now: UnixMillis, account: usize, request: Request) -> Answer {
        match request {
            Request::Import { name, lists, rows } => {
                let profiles = rows.rows.iter().filter_map(|(address, _)| load::profile_of(address)).collect();
                let file_name = Some(name.file_name().into());
                Answer::Activity(Box::new(self.start(
                    now,
                    account,
                    file_name,
                    rows.rows.len() as u64,
                    Work::Import { lists, profiles },
                )))
            }
            Request::Remove { source, targets } => {
                let (profiles, rows) = match source {
                    RemovalSource::Contacts(ids) => {
                        let profiles: Vec<Profile> = ids.iter().filter_map(|id| Profile::try_from(id.as_u128()).ok()).collect();
                        (profiles, ids.len() as u64)
                    }
                    RemovalSource::Lists(lists) => {
                        let count = |list| self.accounts[account].lists.get(list).map_or(0, |list| list.count);
                        let rows = lists.iter().map(count).sum();
                        let members = lists.iter().filter_map(|list| self.accounts[account].lists.get(list));
                        (members.flat_map(|list| list.members.iter().copied()).collect(), rows)
                    }
                };
                Answer::Activity(Box::new(self.start(now, account, None, rows, Work::Remove { lists: targets, profiles, rows })))
            }
            // No load erases anybody.
            Request::DeleteContacts { contacts } => {
                let rows = contacts.len() as u64;
                let work = Work::Remove { lists: Vec::new(), profiles: Vec::new(), rows };
                Answer::Activity(Box::new(self.start(now, account, None, rows, work)))
            }
            Request::Activity { activity_id } => {
                let job = self.accounts[account].jobs.iter().rev().find(|job| job.id == activity_id);
                match job {
                    Some(job) => Answer::Activity(Box::new(shown(now, job))),
                    None => Answer::Activities(page(Vec::new())),
                }
            }
            Request::Activities { cursor } => {
                let from = cursor.and_then(|cursor| cursor.0.parse::<usize>().ok()).unwrap_or(0);
                let jobs = &self.accounts[account].jobs;
                let items = jobs.iter().rev().skip(from).take(PAGE).map(|job| shown(now, job)).collect();
                let next = (jobs.len() > from + PAGE).then(|| Cursor((from + PAGE).to_string().into()));
                Answer::Activities(Page { items, next })
            }
            Request::ListMembers { list, cursor } => {
                let from = cursor.and_then(|cursor| cursor.0.parse::<Profile>().ok()).unwrap_or(0);
                let Some(state) = self.accounts[account].lists.get(&list) else {
                    return Answer::Contacts(page(Vec::new()));
                };
                let profiles: Vec<Profile> = state.members.range(from..).take(PAGE + 1).copied().collect();
                let next = profiles.get(PAGE).map(|first| Cursor(first.to_string().into()));
                let items = profiles.into_iter().take(PAGE).map(|profile| contact(profile, vec![list])).collect();
                Answer::Contacts(Page { items, next })
            }
            Request::LookUp { address } => {
                let lists = &self.accounts[account].lists;
                let found = load::profile_of(&address).map(|profile| {
                    let on = lists.iter().filter(|(_, list)| !self.keeps_members || list.members.contains(&profile));
                    contact(profile, on.map(|(list, _)| *list).collect())
                });
                Answer::Contacts(page(found.into_iter().collect()))
            }
            Request::Suppressed { .. } => Answer::Contacts(page(Vec::new())),
            Request::FindList { name } => {
                let found = self.accounts[account].lists.iter().find(|(_, list)| list.name == name);
                Answer::Lists(page(found.map(|(id, list)| listed(*id, list)).into_iter().collect()))
            }
            Request::List { list } => {
                let state = self.accounts[account].lists.entry(list).or_default();
                Answer::List(listed(list, state))
            }
            Request::Lists { .. } => {
                let lists = &self.accounts[account].lists;
                Answer::Lists(page(lists.iter().map(|(id, list)| listed(*id, list)).collect()))
            }
            Request::ContactCounts => Answer::ContactCounts(ContactCounts::default()),
            Request::DeleteList { list } => {
                self.accounts[account].lists.remove(&list);
                Answer::Activity(Box::new(self.start(now, account, None, 0, Work::Nothing)))
            }
            Request::CreateList { name } => {
                let id = ListId::from_u128(self.id());
                let state = self.accounts[account].lists.entry(id).or_default();
                state.name = name;
                Answer::List(listed(id, state))
            }
        }
    }

    fn start(&mut self, now: UnixMillis, account: usize, file_name: Option<Text>, rows: u64, work: Work) -> Activity {
        let mut took_ms = START_MS + rows * ROW_US / 1_000;
        if self.kind == VendorKind::Scattered {
            // Lognormal with a spread of 30 % and a mean of 1.
            let normal = (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * self.rng.f64()).cos();
            took_ms = whole(took_ms as f64 * (0.3 * normal - 0.045).exp());
        }
        let id = ActivityId::from_u128(self.id());
        let state = &mut self.accounts[account];
        let begins = if self.kind == VendorKind::Serial { now.max(state.busy_until) } else { now };
        let completed_at = begins.plus_ms(i64::try_from(took_ms).unwrap_or(i64::MAX));
        state.busy_until = state.busy_until.max(completed_at);
        state.open.insert((completed_at, id), work);
        self.open_max = self.open_max.max(state.open.len());
        let job = Job { id, file_name, created_at: now, completed_at, rows };
        let activity = shown(now, &job);
        state.jobs.push_back(job);
        activity
    }

    /// What is done by now has its effect; what nobody asks for any more is forgotten.
    fn finish(&mut self, now: UnixMillis, account: usize) {
        let keeps_members = self.keeps_members;
        let state = &mut self.accounts[account];
        while let Some(entry) = state.open.first_entry()
            && entry.key().0 <= now
        {
            match entry.remove() {
                Work::Import { lists, profiles } => {
                    for list in lists {
                        let list = state.lists.entry(list).or_default();
                        list.count += profiles.len() as u64;
                        if keeps_members {
                            list.members.extend(profiles.iter().copied());
                        }
                    }
                }
                Work::Nothing => {}
                Work::Remove { lists, profiles, rows } => {
                    for list in &lists {
                        let list = state.lists.entry(*list).or_default();
                        list.count = list.count.saturating_sub(rows);
                        for profile in &profiles {
                            list.members.remove(profile);
                        }
                    }
                }
            }
        }
        while state.jobs.front().is_some_and(|job| now.since_ms(job.completed_at) > ACTIVITY_SHOWN_MS) {
            state.jobs.pop_front();
        }
    }
}

fn contact(profile: Profile, lists: Vec<ListId>) -> Contact {
    let contact_id = ContactId::from_u128(u128::from(profile));
    Contact { contact_id, address: load::address(profile), status: ContactStatus::Active, lists }
}

fn listed(list_id: ListId, state: &ListState) -> List {
    List { list_id, name: state.name.clone(), membership_count: Some(state.count) }
}

fn shown(now: UnixMillis, job: &Job) -> Activity {
    let done = job.completed_at <= now;
    let counts = ActivityCounts {
        items_total: Some(job.rows),
        items_completed: Some(job.rows),
        person: Some(job.rows),
        error: Some(0),
        correctable: Some(0),
        cannot_add_to_list: Some(0),
    };
    Activity {
        activity_id: job.id,
        state: if done { ActivityState::Completed } else { ActivityState::Processing },
        source_file_name: job.file_name.clone(),
        created_at: Some(job.created_at),
        completed_at: done.then_some(job.completed_at),
        counts: if done { counts } else { ActivityCounts::default() },
        error_lines: Vec::new(),
        error_texts: 0,
    }
}
