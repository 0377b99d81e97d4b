//! What a world is made of before anything happens in it: the configuration, the accounts, and the records to come.

use fastrand::Rng;

use crate::model::{
    Text,
    call::ContactStatus,
    catalog::{
        Application, ApplicationId, Backfill, Catalog, ClientIdHash, Connection, ConnectionId, Consent, Export, FieldId, ListRef,
        Mapping, NoAddress, OnErasure, OnExit, RemovalStrategy, Timing,
    },
    event::{ChangeKind, DecodeFault, RawRecord, RecordContent, SegmentEvent, SourceRecord, Undecodable},
    hash,
    position::{NextOffset, PartitionId, Position},
    time::{DAY_MS, UnixMillis},
};

use super::{
    configurations::Change,
    faults::{Fault, Faults},
};

/// Part of every address and name in a world, in lower case: where it turns up outside of rows and records, something
/// personal has leaked.
pub const CANARY: &str = "qzcanary";

/// One world's plan.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The configuration. Lists by id are still without their ids: [`Scenario::lists`] says which those are.
    pub catalog: Catalog,
    /// For each export, how its list comes to be.
    pub lists: Vec<ListPlan>,
    /// For each connection, who is in the account before anything happens.
    pub contacts: Vec<Vec<Planted>>,
    /// Who opts out or is deleted meanwhile.
    pub departures: Vec<Departure>,
    /// The vendor's clock at the beginning.
    pub wall_start: UnixMillis,
    /// Calls of the first day that an earlier term has spent, by application.
    pub spent: Vec<u32>,
    /// Where the partitions of the source begin.
    pub starts: Vec<NextOffset>,
    /// The records to come, in the order of their time.
    pub arrivals: Vec<Arrival>,
    /// What the configuration file holds, one after the other; empty where it is [`Scenario::catalog`] all along.
    pub changes: Vec<Change>,
    /// Accounts take removals by staging lists, in about the same time each.
    pub rounds_favoured: bool,
}

/// How an export's list comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListPlan {
    /// It exists, and the configuration has its id.
    ById(Text),
    /// It exists, and the configuration has its name.
    ByName(Text),
    /// The export creates it.
    Created(Text),
}

impl ListPlan {
    /// The list's name.
    #[must_use]
    pub const fn name(&self) -> &Text {
        match self {
            Self::ById(name) | Self::ByName(name) | Self::Created(name) => name,
        }
    }
}

/// A contact that is in the account before anything happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planted {
    /// Its address.
    pub address: Text,
    /// Its permission.
    pub status: ContactStatus,
    /// The export whose list it is on, if it is on one.
    pub export: Option<usize>,
    /// It is the list that the export has in some configurations only.
    pub on_other: bool,
}

/// A person who opts out, or whom somebody deletes, while the world runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// When, from the world's beginning.
    pub at_ms: u64,
    /// The account, by its number.
    pub connection: usize,
    /// Whose address.
    pub address: Text,
    /// What it is from then on.
    pub status: ContactStatus,
}

/// A record that a producer will write.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// When, from the world's beginning.
    pub at_ms: u64,
    /// Where.
    pub partition: PartitionId,
    /// Offsets that are left out before it.
    pub gap: u8,
    /// What.
    pub record: SourceRecord,
}

/// What a seed's events are like.
#[derive(Debug, Clone, Copy)]
struct Habits {
    changes_address: bool,
    shares_addresses: bool,
    bad_addresses: bool,
    no_addresses: bool,
    undecodable: bool,
    erases: bool,
    filtered: bool,
    duplicates: bool,
    /// The source gains partitions, once or twice, and with them new profiles; others move there.
    grows: bool,
    /// Some addresses are longer than some vendors take; half of them, or one now and then.
    long_addresses: bool,
    many_long: bool,
    /// Two profiles exchange their addresses.
    swaps: bool,
    /// An exit may say nothing of the profile.
    bare_exits: bool,
}

/// A profile as its platform knows it.
#[derive(Debug, Clone)]
struct Person {
    id: Text,
    address: Text,
    first_name: Option<Text>,
    versions: u32,
}

impl Scenario {
    /// Draws a plan.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let applications: Vec<Application> = (0..rng.usize(1..=3)).map(|index| application(rng, index)).collect();
        let connections: Vec<Connection> =
            (0..rng.usize(1..=3)).map(|index| connection(rng, index, applications.len())).collect();
        let (mut exports, mut lists) = (Vec::new(), Vec::new());
        for index in 0..rng.usize(1..=4) {
            exports.push(export(rng, index, connections.len()));
            lists.push(match rng.u32(..3) {
                0 => ListPlan::ById(format!("List {index}").into()),
                1 => ListPlan::ByName(format!("List {index}").into()),
                _ => ListPlan::Created(format!("List {index}").into()),
            });
        }
        for (export, list) in exports.iter_mut().zip(&lists) {
            match list {
                ListPlan::ById(_) => {}
                ListPlan::ByName(name) => export.list = ListRef::Named { name: name.clone(), create: false },
                ListPlan::Created(name) => export.list = ListRef::Named { name: name.clone(), create: true },
            }
        }
        let contacts = planted(rng, connections.len(), &exports, &lists);
        let usual = Timing::default();
        let park_after_ms = if rng.bool() { usual.park_after_ms } else { rng.u64(500..usual.park_after_ms) };
        let fields = ["profile.email", "profile.first_name", "profile.last_name", "profile.attributes.city"];
        let catalog = Catalog {
            applications,
            connections,
            exports,
            fields: fields.map(Text::new).to_vec(),
            timing: Timing { park_after_ms, ..usual },
            profiles_max: 1_000_000,
        };
        let partitions = rng.i32(1..=3);
        let mut start = |partition| NextOffset { partition: PartitionId(partition), offset: i64::from(rng.u8(..3)) * 50 };
        let starts: Vec<NextOffset> = (0..partitions).map(&mut start).collect();
        // 2026-06-01, somewhere in the day, or shortly before its end.
        let day = UnixMillis(20_605 * DAY_MS);
        let ends_soon = rng.u32(..3) == 0;
        let wall_start = day.plus_ms(if ends_soon { DAY_MS - rng.i64(1_000..900_000) } else { rng.i64(0..DAY_MS) });
        // A day that is spent before it ends shows whose midnight counts.
        let mut spent = |application: &Application| {
            let left = rng.u32(10..60);
            let spends = ends_soon && rng.bool();
            application.calls_per_day.filter(|_| spends).map_or(0, |calls| calls.saturating_sub(left))
        };
        let spent = catalog.applications.iter().map(&mut spent).collect();
        let mut scenario = Self {
            catalog,
            lists,
            contacts,
            departures: Vec::new(),
            wall_start,
            spent,
            starts,
            arrivals: Vec::new(),
            changes: Vec::new(),
            rounds_favoured: false,
        };
        let changes = rng.u32(..3) == 0;
        scenario.arrivals = arrivals(rng, &scenario.catalog, partitions, changes);
        if changes {
            scenario.changes = Change::draw_all(rng, &scenario.catalog, scenario.last_arrival_ms());
        } else {
            scenario.opt_out(rng);
        }
        // From a copy: a world without a limit is the same as if none were ever drawn.
        scenario.limit_contacts(rng);
        scenario.favour_rounds(rng);
        scenario
    }

    /// In some worlds rounds follow one another as they do where many leave and calls are dear.
    fn favour_rounds(&mut self, rng: &mut Rng) {
        self.rounds_favoured = rng.u32(..8) == 0;
        if !self.rounds_favoured {
            return;
        }
        for application in &mut self.catalog.applications {
            application.calls_per_day = Some(rng.u32(100..300));
        }
        for export in &mut self.catalog.exports {
            (export.removal_strategies, export.on_exit) = (vec![RemovalStrategy::StagingList], OnExit::Remove);
        }
    }

    /// The contracts of some accounts allow a few contacts more than are there before anything happens.
    fn limit_contacts(&mut self, rng: &mut Rng) {
        for (connection, planted) in self.catalog.connections.iter_mut().zip(&self.contacts) {
            let active = planted.iter().filter(|planted| planted.status == ContactStatus::Active).count() as u64;
            let room = rng.u64(2..60);
            connection.contacts_max = (rng.u32(..10) == 0).then_some(active + room);
        }
    }

    /// Some of the source's profiles have opted out or were deleted before, or do so meanwhile.
    fn opt_out(&mut self, rng: &mut Rng) {
        let gone = |rng: &mut Rng| if rng.bool() { ContactStatus::Unsubscribed } else { ContactStatus::Deleted };
        let (before, meanwhile) = (rng.u32(..3) == 0, rng.u32(..3) == 0);
        let last_ms = self.last_arrival_ms();
        for connection in 0..self.contacts.len() {
            for _ in 0..if before { rng.u32(1..6) } else { 0 } {
                let address: Text = format!("{CANARY}{}@example.com", rng.u32(..40)).into();
                if !self.contacts[connection].iter().any(|planted| planted.address == address) {
                    self.contacts[connection].push(Planted { address, status: gone(rng), export: None, on_other: false });
                }
            }
            for _ in 0..if meanwhile { rng.u32(1..10) } else { 0 } {
                let address = format!("{CANARY}{}@example.com", rng.u32(..40)).into();
                let (at_ms, status) = (rng.u64(..=last_ms), gone(rng));
                self.departures.push(Departure { at_ms, connection, address, status });
            }
        }
    }

    /// What goes wrong in its world. Where rounds are favoured, terms are mostly long enough to learn what activities take,
    /// and it is an exception that one takes longer.
    #[must_use]
    pub fn faults(&self, rng: &mut Rng) -> Faults {
        let faults = Faults::draw(rng);
        if !self.rounds_favoured {
            return faults;
        }
        let faults = faults.with(Fault::SlowActivity, 800);
        if rng.u32(..4) == 0 { faults } else { faults.without_ends() }
    }

    /// When the last record arrives.
    #[must_use]
    pub fn last_arrival_ms(&self) -> u64 {
        self.arrivals.last().map_or(0, |arrival| arrival.at_ms)
    }
}

fn application(rng: &mut Rng, index: usize) -> Application {
    let calls_per_second = match rng.u32(..6) {
        0 => Some(2),
        1 => Some(10),
        _ => Some(4),
    };
    let calls_per_day = match rng.u32(..8) {
        0 => Some(rng.u32(60..180)),
        1 => Some(rng.u32(180..500)),
        2 | 3 => Some(1_000),
        _ => Some(10_000),
    };
    Application {
        name: format!("app{index}").into(),
        client_id_hash: ClientIdHash(hash::text_hash(&format!("client {index}"))),
        calls_per_second,
        calls_per_day,
        reserved_for_others_percent: if rng.u32(..8) == 0 { 10 } else { 0 },
    }
}

fn connection(rng: &mut Rng, index: usize, applications: usize) -> Connection {
    let consent = Consent { accepted_by: "operator".into(), accepted_at: UnixMillis(0), text: "1".into() };
    Connection {
        name: format!("account{index}").into(),
        application: ApplicationId(number(rng.usize(..applications))),
        consent: Some(consent),
        refreshes: rng.u32(..4) != 0,
        on_erasure: if rng.u32(..3) == 0 { OnErasure::DeleteContact } else { OnErasure::RemoveFromLists },
        contacts_max: None,
    }
}

/// Segments of the export with this number: one to three, some of them shared with others.
fn segments(rng: &mut Rng, index: usize) -> Vec<Text> {
    let mut segments: Vec<Text> = Vec::new();
    for number in 0..[1, 1, 2, 3][rng.usize(..4)] {
        let shared = rng.u32(..4) == 0;
        let segment = if shared { format!("segment-shared-{number}") } else { format!("segment-{index}-{number}") };
        segments.push(segment.into());
    }
    segments
}

fn export(rng: &mut Rng, index: usize, connections: usize) -> Export {
    let custom: Vec<(Text, FieldId)> = if rng.bool() { vec![("city".into(), FieldId(3))] } else { Vec::new() };
    let first_name = (rng.u32(..4) != 0).then_some(FieldId(1));
    let last_name = rng.bool().then_some(FieldId(2));
    let mapping = Mapping {
        email: FieldId(0),
        first_name,
        last_name,
        custom_names: custom.iter().map(|(name, _)| name.clone()).collect(),
        hash: hash::text_hash(&format!("{first_name:?}{last_name:?}{custom:?}")),
        custom,
    };
    let removal_strategies = match rng.u32(..8) {
        0 => vec![RemovalStrategy::LookUp],
        1 => vec![RemovalStrategy::Scan],
        2 => vec![RemovalStrategy::LookUp, RemovalStrategy::Scan],
        3 => vec![RemovalStrategy::Scan, RemovalStrategy::LookUp],
        4 => vec![RemovalStrategy::LookUp, RemovalStrategy::StagingList],
        5 => vec![RemovalStrategy::StagingList, RemovalStrategy::Scan, RemovalStrategy::LookUp],
        _ => vec![RemovalStrategy::StagingList],
    };
    Export {
        name: format!("export{index}").into(),
        connection: ConnectionId(number(rng.usize(..connections))),
        list: ListRef::Named { name: Text::default(), create: false },
        segments: segments(rng, index),
        mapping,
        no_address: if rng.bool() { NoAddress::Skip } else { NoAddress::DeadLetter },
        on_exit: if rng.u32(..8) == 0 { OnExit::Keep } else { OnExit::Remove },
        backfill: Backfill::FromSource,
        removal_strategies,
        profiles_per_hour_max: (rng.u32(..8) != 0).then_some(1_000_000),
        weight: 1,
        adopts_existing: false,
        removal_brake: None,
        starts_at_once: true,
    }
}

/// Members that are not ours, and contacts that have opted out or were deleted. None of these is a profile of the source.
fn planted(rng: &mut Rng, connections: usize, exports: &[Export], lists: &[ListPlan]) -> Vec<Vec<Planted>> {
    let mut accounts = vec![Vec::new(); connections];
    for (index, export) in exports.iter().enumerate() {
        let account = &mut accounts[usize::from(export.connection.0)];
        let members = if matches!(lists[index], ListPlan::Created(_)) { 0 } else { rng.u32(..6) };
        let status = ContactStatus::Active;
        for member in 0..members {
            let address = format!("{CANARY}.foreign{index}.{member}@example.org").into();
            account.push(Planted { address, status, export: Some(index), on_other: rng.bool() });
        }
        // Some of them are profiles of the source, which enter and leave like everybody.
        if members > 0 && rng.bool() {
            let address = format!("{CANARY}{}@example.com", rng.usize(..5)).into();
            account.push(Planted { address, status, export: Some(index), on_other: rng.u32(..3) == 0 });
        }
    }
    for (index, account) in accounts.iter_mut().enumerate() {
        for number in 0..rng.u32(..4) {
            let status = if rng.bool() { ContactStatus::Unsubscribed } else { ContactStatus::Deleted };
            let address = format!("{CANARY}.gone{index}.{number}@example.org").into();
            account.push(Planted { address, status, export: None, on_other: false });
        }
    }
    accounts
}

/// The records to come. Where the configuration changes, profiles carry their address in each event and never change it:
/// what is wanted then follows from the facts alone, without the rules by which the engine reads again.
fn arrivals(rng: &mut Rng, catalog: &Catalog, partitions: i32, changes: bool) -> Vec<Arrival> {
    let mut habit = || rng.u32(..3) == 0;
    let habits = Habits {
        changes_address: habit() && !changes,
        shares_addresses: habit(),
        bad_addresses: habit() && !changes,
        no_addresses: habit() && !changes,
        undecodable: habit(),
        erases: habit(),
        filtered: habit(),
        duplicates: habit(),
        grows: habit(),
        long_addresses: habit() && !changes,
        many_long: habit(),
        swaps: !changes,
        bare_exits: !changes,
    };
    let mut people: Vec<Person> = (0..rng.usize(5..=80)).map(|index| person(rng, index, habits)).collect();
    let gaps = rng.bool();
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut at_ms = rng.u64(..2_000);
    let count = rng.usize(20..=300);
    let pause_ms = if rng.bool() { 60_000 } else { 1_200_000 };
    let mut partitions = usize::try_from(partitions).unwrap_or(1);
    let mut growths: Vec<usize> = (0..if habits.grows { rng.usize(1..=2) } else { 0 }).map(|_| rng.usize(..count)).collect();
    growths.sort_unstable_by(|one, other| other.cmp(one));
    while arrivals.len() < count {
        // A burst: records within seconds of each other.
        let step_ms = rng.u64(1..3_000);
        for _ in 0..rng.usize(1..=40) {
            while growths.pop_if(|at| arrivals.len() >= *at).is_some() {
                // By a multiple, as the documents ask for: profiles move to what is gained, and nowhere else.
                partitions *= rng.usize(2..=3);
                let known = people.len();
                people.extend((known..known + 5).map(|index| person(rng, index, habits)));
            }
            let index = rng.usize(..people.len());
            if habits.shares_addresses && habits.swaps && rng.u32(..40) == 0 {
                let other = rng.usize(..people.len());
                let (address, others) = (people[index].address.clone(), people[other].address.clone());
                (people[index].address, people[other].address) = (others, address);
            }
            let content = content(rng, catalog, habits, &mut people[index]);
            // As Kafka's partitioner places a key, whose hash is its number here.
            let place = i32::try_from(index % partitions).unwrap_or_default();
            let key = people[index].id.clone();
            let value = arrivals.len().to_le_bytes();
            let record = SourceRecord {
                position: Position::default(),
                timestamp: UnixMillis(0),
                hash: hash::record_hash(Some(key.as_bytes()), Some(&value)),
                content,
            };
            let gap = if gaps && rng.u32(..5) == 0 { rng.u8(1..4) } else { 0 };
            let arrival = Arrival { at_ms, partition: PartitionId(place), gap, record };
            if habits.duplicates && rng.u32(..6) == 0 {
                arrivals.push(arrival.clone());
            }
            arrivals.push(arrival);
            at_ms += rng.u64(..=step_ms);
        }
        at_ms += rng.u64(..pause_ms);
    }
    arrivals
}

fn person(rng: &mut Rng, index: usize, habits: Habits) -> Person {
    let owner = if habits.shares_addresses && index > 0 && rng.u32(..6) == 0 { index - 1 } else { index };
    let long = habits.long_addresses && rng.u32(..if habits.many_long { 2 } else { 8 }) == 0;
    let domain = if long { "a-domain-that-is-longer-than-usual.example.com" } else { "example.com" };
    Person {
        id: format!("profile-{index}").into(),
        address: format!("{CANARY}{owner}@{domain}").into(),
        first_name: rng.bool().then(|| format!("Qzcanary{index}").into()),
        versions: 0,
    }
}

fn content(rng: &mut Rng, catalog: &Catalog, habits: Habits, person: &mut Person) -> RecordContent {
    if habits.undecodable && rng.u32(..20) == 0 {
        let original = RawRecord {
            key: Some(person.id.as_bytes().to_vec()),
            value: Some(person.address.as_bytes().to_vec()),
            headers: Vec::new(),
        };
        return RecordContent::Undecodable(Box::new(Undecodable {
            kind: DecodeFault::Malformed,
            detail: "the value ends early".into(),
            original,
        }));
    }
    if habits.erases && rng.u32(..40) == 0 {
        return RecordContent::Erasure { profile_id: person.id.clone() };
    }
    let change = match rng.u32(..10) {
        0..5 => ChangeKind::Entered,
        5..8 => ChangeKind::Exited,
        _ => ChangeKind::Updated,
    };
    if rng.u32(..6) == 0 {
        person.versions += 1;
        person.first_name = Some(format!("Qzcanary{}", person.versions).into());
        if habits.changes_address && rng.bool() {
            person.address = format!("{CANARY}{}.{}@example.com", person.id, person.versions).into();
        }
    }
    let segment_id = if habits.filtered && rng.u32(..12) == 0 {
        Some("segment-of-nobody".into())
    } else if change == ChangeKind::Updated && rng.bool() {
        None
    } else {
        let export = &catalog.exports[rng.usize(..catalog.exports.len())];
        Some(export.segments[rng.usize(..export.segments.len())].clone())
    };
    RecordContent::Event(SegmentEvent {
        profile_id: person.id.clone(),
        segment_id,
        change,
        occurred_at: None,
        values: values(rng, habits, change, person),
    })
}

/// The values of the mapped fields: all, or none at all where the profile is null.
fn values(rng: &mut Rng, habits: Habits, change: ChangeKind, person: &Person) -> Box<[Option<Text>]> {
    if habits.bare_exits && change == ChangeKind::Exited && rng.bool() {
        return Box::new([None, None, None, None]);
    }
    let address = if habits.no_addresses && rng.u32(..12) == 0 {
        None
    } else if habits.bad_addresses && rng.u32(..12) == 0 {
        Some(format!("{CANARY} is no address").into())
    } else if rng.u32(..10) == 0 {
        // The same address in another spelling.
        Some(format!(" {} ", person.address.to_uppercase()).into())
    } else {
        Some(person.address.clone())
    };
    let city = person.versions.is_multiple_of(2).then(|| Text::from("Ulm, \"Donau\""));
    Box::new([address, person.first_name.clone(), Some("Qzcanary".into()), city])
}

/// A small index as the catalog numbers its things.
fn number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_plan() {
        let [first, again] = [5, 5].map(|seed| format!("{:?}", Scenario::draw(&mut Rng::with_seed(seed))));
        assert_eq!(first, again);
    }

    #[test]
    fn seeds_cover_what_a_world_may_hold() {
        let plans: Vec<Scenario> = (0..200).map(|seed| Scenario::draw(&mut Rng::with_seed(seed))).collect();
        let some = |has: &dyn Fn(&Scenario) -> bool| {
            let count = plans.iter().filter(|plan| has(plan)).count();
            assert!(count > 5 && count < 195, "{count} of 200");
        };
        let content = |plan: &Scenario, has: &dyn Fn(&RecordContent) -> bool| {
            plan.arrivals.iter().any(|arrival| has(&arrival.record.content))
        };
        some(&|plan| plan.catalog.connections.len() > 1);
        some(&|plan| plan.catalog.applications.iter().any(|application| application.calls_per_day < Some(600)));
        some(&|plan| !plan.departures.is_empty());
        some(&|plan| plan.lists.iter().any(|list| matches!(list, ListPlan::Created(_))));
        some(&|plan| plan.wall_start.plus_ms(1_000_000).day() > plan.wall_start.day());
        some(&|plan| plan.changes.len() > 1);
        some(&|plan| content(plan, &|content| matches!(content, RecordContent::Undecodable(_))));
        some(&|plan| content(plan, &|content| matches!(content, RecordContent::Erasure { .. })));
        for plan in &plans {
            assert!(plan.arrivals.len() >= 20 && plan.arrivals.is_sorted_by_key(|arrival| arrival.at_ms));
        }
    }
}
