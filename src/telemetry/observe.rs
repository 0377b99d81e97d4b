//! One exhaustive match: an event of the engine → metrics and at most one log line.

use crate::{
    engine::{
        Event, Snapshot,
        event::{CallResult, RecordCounts, RoundEnd},
        reason::{Holder, PauseReason},
    },
    model::{
        Text,
        activity::ActivityState,
        call::Disposition,
        catalog::{Catalog, ExportId},
        event::{ChangeKind, DecodeFault},
        position::NextOffset,
        time::UnixMillis,
    },
};

use super::Telemetry;

/// What the gauges show of one owned shard.
#[derive(Debug, Clone, Copy)]
pub struct ShardGauges<'a> {
    /// Its number.
    pub shard: u32,
    /// What its engine knows of itself.
    pub view: &'a Snapshot,
    /// The ends of the source's partitions, where they are known.
    pub ends: &'a [NextOffset],
}

impl Telemetry {
    /// Counts an event of a shard, and logs those that an operator would want to read.
    pub fn observe(&self, shard: u32, event: &Event, catalog: &Catalog) {
        let name = |id: &ExportId| catalog.export(*id).name.as_str();
        match event {
            Event::RecordsRouted(counts) => self.count_records(shard, counts),
            Event::BatchCut { name: batch, export, operation, rows, reason } => {
                let export = name(export);
                self.batches.with_label_values(&[export, operation.as_str(), reason.as_str()]).inc();
                self.batch_rows.with_label_values(&[operation.as_str()]).observe(f64::from(*rows));
                tracing::debug!(%batch, export, operation = operation.as_str(), rows, reason = reason.as_str(), "batch cut");
            }
            Event::CallEnded { application, export, kind, result, took_ms, .. } => {
                let application = catalog.application(*application).name.as_str();
                let export = export.as_ref().map_or("", name);
                self.calls.with_label_values(&[application, export, kind.as_str(), word(*result)]).inc();
                self.call_seconds.with_label_values(&[kind.as_str()]).observe(seconds(*took_ms));
                match result {
                    CallResult::Ok => tracing::debug!(application, export, kind = kind.as_str(), took_ms, "call answered"),
                    CallResult::Refused(_) | CallResult::Unknown | CallResult::NotSent => {
                        tracing::warn!(
                            application,
                            export,
                            kind = kind.as_str(),
                            result = word(*result),
                            took_ms,
                            "call not answered as asked"
                        );
                    }
                }
            }
            Event::ActivityStarted { name: batch, export, operation } => {
                tracing::debug!(%batch, export = name(export), operation = operation.as_str(), "the vendor took a batch");
            }
            Event::ActivityEnded { name: batch, export, operation, state, took_ms } => {
                let export = name(export);
                self.activities.with_label_values(&[export, operation.as_str(), state_word(*state)]).inc();
                self.activity_seconds.with_label_values(&[operation.as_str()]).observe(seconds(*took_ms));
                tracing::info!(%batch, export, operation = operation.as_str(), state = state_word(*state), took_ms, "activity ended");
            }
            Event::Applied { export, adds, updates, removals, freshness_ms, at: _, vendor_ms: _ } => {
                let export = name(export);
                for (operation, rows) in [("add", adds), ("update", updates), ("remove", removals)] {
                    self.applied.with_label_values(&[export, operation]).inc_by(u64::from(*rows));
                }
                let histogram = self.freshness_seconds.with_label_values(&[export]);
                for ms in freshness_ms {
                    histogram.observe(f64::from(*ms) / 1_000.0);
                }
                tracing::info!(export, adds, updates, removals, "applied");
            }
            Event::Cancelled { export, contacts } => {
                self.cancelled.with_label_values(&[name(export)]).inc_by(u64::from(*contacts));
            }
            Event::Parked { export, contacts } => {
                self.parked.with_label_values(&[name(export)]).inc_by(u64::from(*contacts));
                tracing::debug!(export = name(export), contacts, "parked: the watermark goes on without them");
            }
            Event::RowsRefused { export, rows } => {
                self.refused.with_label_values(&[name(export)]).inc_by(u64::from(*rows));
                tracing::warn!(export = name(export), rows, "the vendor refused rows; they are in the dead letters");
            }
            Event::SearchSpent { export, contacts, refused } => {
                tracing::warn!(
                    export = name(export),
                    contacts,
                    refused,
                    "the vendor refused some of these rows, and the search for which is spent: they are kept, and sent again when another row of their profile comes"
                );
            }
            Event::Suppressed { export, contacts } => {
                self.suppressed.with_label_values(&[name(export)]).inc_by(u64::from(*contacts));
                tracing::info!(export = name(export), contacts, "not added: the account has them as deleted or unsubscribed");
            }
            Event::Flapping { export, contacts } => {
                self.flapping.with_label_values(&[name(export)]).inc_by(u64::from(*contacts));
                tracing::info!(
                    export = name(export),
                    contacts,
                    "parked: their addresses were sent five times within a day, and once more may have the vendor flag them as abuse; the newest row of each goes when the oldest of these is a day old"
                );
            }
            Event::ContactsDeleted { export, contacts } => {
                self.contacts_deleted.with_label_values(&[name(export)]).inc_by(u64::from(*contacts));
                tracing::info!(export = name(export), contacts, "deleted in the account: their profiles were erased");
            }
            Event::CannotAddUnexplained { export, rows } => {
                self.cannot_add.with_label_values(&[name(export)]).inc_by(*rows);
                tracing::warn!(
                    export = name(export),
                    rows,
                    "the vendor did not add contacts to the list, and does not show them as unsubscribed"
                );
            }
            Event::RemovalPlanned { export, strategy, contacts, calls, other } => {
                self.removal_plans.with_label_values(&[name(export), strategy.as_str()]).inc();
                tracing::info!(
                    export = name(export),
                    strategy = strategy.as_str(),
                    contacts,
                    calls,
                    strategy_other = other.map(|(strategy, _)| strategy.as_str()),
                    calls_other = other.map(|(_, calls)| calls),
                    "removals planned; calls: what they cost, calls_other: what the next cheapest strategy would cost"
                );
            }
            Event::RoundEnded { export, contacts, end, in_two, ahead } => {
                self.staging_rounds.with_label_values(&[name(export), end.as_str()]).inc();
                let export = name(export);
                match end {
                    RoundEnd::Failed => tracing::warn!(
                        export,
                        contacts,
                        "a removal by a staging list is not certain to have worked: its contacts are removed again"
                    ),
                    RoundEnd::Applied | RoundEnd::TakenBack | RoundEnd::NobodyStaged | RoundEnd::Early | RoundEnd::Followed => {
                        tracing::info!(export, contacts, end = end.as_str(), in_two, ahead, "a removal by a staging list ended");
                    }
                }
            }
            Event::StagingList { connection, number, change } => {
                let connection = catalog.connection(*connection).name.as_str();
                self.staging_lists.with_label_values(&[connection, change.as_str()]).inc();
                tracing::info!(connection, number, change = change.as_str(), "staging list");
            }
            Event::RemovesFromSource { connection, removes } => {
                let connection = catalog.connection(*connection).name.as_str();
                tracing::info!(
                    connection,
                    removes,
                    "whether one removal takes contacts off their target and off the staging list that names them; otherwise \
                     it takes two"
                );
            }
            Event::LateAnswer { kind } => {
                self.late_answers.inc();
                tracing::debug!(
                    kind = kind.map_or("", crate::model::call::CallKind::as_str),
                    "an answer came that nobody waits for"
                );
            }
            Event::BatchFound { name: batch } => {
                self.batches_found.inc();
                tracing::info!(%batch, "a batch without an answer was found by its name");
            }
            Event::BatchGivenUp { name: batch } => {
                self.batches_given_up.inc();
                tracing::warn!(%batch, "a batch without an answer was not found; its contacts are sent again");
            }
            Event::SegmentsStopped { export, segments } => {
                tracing::warn!(
                    %export,
                    segments,
                    "segments are routed no more; who was on the list because of them alone leaves, unless the export itself is gone"
                );
            }
            Event::BackfillBegan { export, segments, records, lost } => {
                let name = catalog.export(*export).name.as_str();
                tracing::info!(export = name, segments, records, "segments are routed anew: the source is read again for them");
                if *lost {
                    tracing::warn!(
                        export = name,
                        "the source has lost events of these segments since they were routed last: have the producer send them again"
                    );
                }
            }
            Event::BackfillEnded { export } => {
                tracing::info!(export = catalog.export(*export).name.as_str(), "what was read again is routed from here on");
            }
            Event::MoveBegan { export, contacts } => {
                let name = catalog.export(*export).name.as_str();
                tracing::info!(
                    export = name,
                    contacts,
                    "another list is configured: ours leave the old one, then join the new one"
                );
            }
            Event::MoveEnded { export } => {
                tracing::info!(
                    export = catalog.export(*export).name.as_str(),
                    "nothing of ours is on the old list; the new one counts"
                );
            }
            Event::ExistingMembersRead { export, contacts } => {
                let name = catalog.export(*export).name.as_str();
                tracing::info!(export = name, contacts, "the members that the list had before were read: they are never removed");
            }
            Event::ExistingMembersAdopted { export, contacts } => {
                let name = catalog.export(*export).name.as_str();
                tracing::info!(
                    export = name,
                    contacts,
                    "the members that the list had before are ours: who is in no segment leaves"
                );
            }
            Event::NamesNotEchoed { connection } => {
                let connection = catalog.connection(*connection).name.as_str();
                tracing::warn!(connection, "the vendor does not give file names back: an import without an answer is repeated");
            }
            Event::GhostSeen { name: batch, export, contacts } => {
                tracing::warn!(%batch, export = name(export), contacts, "a batch that was given up runs after all");
            }
            Event::GhostEnded { name: batch, export, contacts } => {
                self.ghosts.inc();
                tracing::warn!(%batch, export = name(export), contacts, "a batch that was given up ended: its contacts are sent again");
            }
            Event::ContractReached { connection, contacts, contacts_max } => {
                tracing::warn!(
                    connection = catalog.connection(*connection).name.as_str(),
                    contacts,
                    contacts_max,
                    "the account has as many contacts as its contract allows: adds wait, updates and removals go on"
                );
            }
            Event::RemovalsBraked { export, braked } => {
                let export = name(export);
                tracing::warn!(export, "{braked}: look at the segments, then `listkeeper export approve {export}`");
            }
            Event::Ordered { export, action } => {
                tracing::info!(export = name(export), order = action.as_str(), "ordered by the operator, and in the state");
            }
            Event::Held { who, reason, until } => {
                let (holder, name) = holder(shard, *who, catalog);
                let until = until
                    .and_then(|at| jiff::Timestamp::from_millisecond(at.0).ok())
                    .map(|at| at.to_string())
                    .unwrap_or_default();
                tracing::warn!(holder, %name, reason = reason.as_str(), until, "held: {}", reason.explain());
            }
            Event::Released { who, reason } => {
                let (holder, name) = holder(shard, *who, catalog);
                tracing::info!(holder, %name, reason = reason.as_str(), "held no more");
            }
            Event::Paused { reason, most } => {
                let most = most.map(|id| catalog.export(id).name.as_str()).unwrap_or_default();
                tracing::info!(shard, reason = reason.as_str(), most, "reading is paused: {}", reason.explain());
            }
            Event::Resumed => {
                tracing::info!(shard, "reading goes on");
            }
            Event::PartitionsWait { partitions, reason } => {
                let explain = reason.explain();
                tracing::info!(shard, partitions, reason = reason.as_str(), "partitions are not read yet: {explain}");
            }
            Event::PartitionsBegun { partitions } => {
                tracing::info!(shard, partitions, "partitions that the source has gained are read from here on");
            }
            Event::DeadLettered { letters, reason } => {
                self.dead_letters.with_label_values(&[*reason]).inc_by(u64::from(*letters));
                tracing::debug!(letters, reason, "dead-lettered");
            }
            Event::Committed { changes, took_ms } => {
                self.commits.inc();
                self.commit_seconds.observe(seconds(*took_ms));
                tracing::debug!(shard, changes, took_ms, "committed");
            }
        }
    }

    /// The metrics in Prometheus' text format, with gauges made anew from what the owned shards show: what is no longer
    /// this replica's, and a hold that has ended, are shown no more. `up` names what the stage rests on, and whether it
    /// answers.
    ///
    /// # Errors
    /// The encoder's, which means a fault in a metric.
    pub fn scrape(&self, shards: &[ShardGauges<'_>], up: &[(&str, bool)], wall: UnixMillis) -> prometheus::Result<String> {
        let _one_at_a_time = self.scraping.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.reset_gauges();
        for (dependency, answers) in up {
            self.dependency_up.with_label_values(&[*dependency]).set(i64::from(*answers));
        }
        for shard in shards {
            self.show(shard, wall);
        }
        self.encode()
    }

    fn show(&self, shown: &ShardGauges<'_>, wall: UnixMillis) {
        let view = shown.view;
        let shard = shown.shard.to_string();
        let age = |since: Option<UnixMillis>| since.map_or(0.0, |since| seconds(wall.since_ms(since)));
        let held = |holder: &str, name: &str, reason: Option<crate::engine::reason::HoldReason>| {
            if let Some(reason) = reason {
                self.held.with_label_values(&[holder, name, reason.as_str()]).set(1);
            }
        };
        self.owner.with_label_values(&[&shard]).set(1);
        held("shard", &shard, view.held);
        let waits = (!view.waiting_partitions.is_empty()).then_some(PauseReason::OlderPartitions);
        for reason in view.paused.into_iter().chain(waits) {
            self.paused.with_label_values(&[shard.as_str(), reason.as_str()]).set(1);
        }
        for application in &view.applications {
            let label = [application.name.as_str()];
            self.calls_used.with_label_values(&label).set(i64::from(application.calls_used));
            if let Some(left) = application.calls_left {
                self.calls_left.with_label_values(&label).set(i64::from(left));
            }
            self.call_price_waiting_seconds.with_label_values(&label).set(application.call_price_waiting_seconds);
            held("application", &application.name, application.held);
        }
        for connection in &view.connections {
            let label = [connection.name.as_str()];
            self.activities_open.with_label_values(&label).set(i64::from(connection.activities_open));
            self.oldest_activity_seconds.with_label_values(&label).set(age(connection.oldest_activity));
            self.suppressed_contacts.with_label_values(&label).set(number(connection.suppressed));
            let contacts = [(&self.account_contacts, connection.contacts), (&self.account_contacts_max, connection.contacts_max)];
            for (gauge, contacts) in contacts {
                if let Some(contacts) = contacts {
                    gauge.with_label_values(&label).set(number(contacts));
                }
            }
            if let Some(expires_at) = connection.token_expires_at {
                self.token_expiry_seconds.with_label_values(&label).set(seconds(expires_at.since_ms(wall)));
            }
            held("connection", &connection.name, connection.held);
        }
        for export in &view.exports {
            let label = [export.name.as_str()];
            for (gauge, count) in [
                (&self.profiles, export.profiles),
                (&self.members, export.members),
                (&self.waiting, export.waiting),
                (&self.in_flight, export.in_flight),
                (&self.suppressed_adds, export.suppressed),
                (&self.adds_without_room, export.contract.map_or(0, |reached| reached.adds)),
                (&self.search_spent, export.search_spent),
                (&self.flapping_changes, export.flapping),
                (&self.removals_held_back, export.removals_held_back),
                (&self.profiles_last_hour, export.profiles_last_hour),
            ] {
                gauge.with_label_values(&label).set(number(count));
            }
            if let Some(max) = export.profiles_per_hour_max {
                self.profiles_per_hour_max.with_label_values(&label).set(number(max));
            }
            self.oldest_unapplied_seconds.with_label_values(&label).set(age(export.oldest_unapplied));
            held("export", &export.name, export.held);
        }
        for next in &view.watermarks {
            let partition = next.partition.0.to_string();
            let label = [shard.as_str(), partition.as_str()];
            self.watermark.with_label_values(&label).set(next.offset);
            if let Some(end) = shown.ends.iter().find(|end| end.partition == next.partition) {
                self.lag_records.with_label_values(&label).set((end.offset - next.offset).max(0));
            }
        }
        self.records_unsettled.with_label_values(&[&shard]).set(number(view.records_unsettled));
        self.buffered_bytes.with_label_values(&[&shard]).set(number(view.buffered_bytes));
        self.backfill_offsets_left.with_label_values(&[&shard]).set(number(view.left_to_read));
    }

    fn count_records(&self, shard: u32, counts: &RecordCounts) {
        let shard = shard.to_string();
        let count = |outcome: &str, records: u32| {
            if records > 0 {
                self.records.with_label_values(&[shard.as_str(), outcome]).inc_by(u64::from(records));
            }
        };
        for (kind, outcome) in
            [(ChangeKind::Entered, "entered"), (ChangeKind::Exited, "exited"), (ChangeKind::Updated, "updated")]
        {
            count(outcome, counts.events[RecordCounts::event_slot(kind)]);
        }
        count("erasure", counts.erasures);
        count("filtered", counts.filtered);
        count("unchanged", counts.unchanged);
        count("read_again", counts.read_again);
        count("replayed", counts.replayed);
        count("without_address", counts.without_address);
        count("invalid_address", counts.invalid_address);
        for fault in DecodeFault::ALL {
            count(fault.as_str(), counts.undecodable[RecordCounts::fault_slot(fault)]);
        }
    }
}

fn holder(shard: u32, who: Holder, catalog: &Catalog) -> (&'static str, Text) {
    match who {
        Holder::Application(id) => ("application", catalog.application(id).name.clone()),
        Holder::Connection(id) => ("connection", catalog.connection(id).name.clone()),
        Holder::Export(id) => ("export", catalog.export(id).name.clone()),
        Holder::Shard => ("shard", shard.to_string().into()),
    }
}

const fn word(result: CallResult) -> &'static str {
    match result {
        CallResult::Ok => "ok",
        CallResult::Unknown => "unknown",
        CallResult::NotSent => "not_sent",
        CallResult::Refused(disposition) => match disposition {
            Disposition::Throttled => "throttled",
            Disposition::QuotaExceeded => "quota_exceeded",
            Disposition::QueueFull => "queue_full",
            Disposition::RefreshToken => "unauthorized",
            Disposition::HoldConnection => "forbidden",
            Disposition::NotFound => "not_found",
            Disposition::Conflict => "conflict",
            Disposition::Split => "too_large",
            Disposition::Invalid => "invalid",
            Disposition::ServerError => "server_error",
        },
    }
}

const fn state_word(state: ActivityState) -> &'static str {
    match state {
        ActivityState::Initialized => "initialized",
        ActivityState::Processing => "processing",
        ActivityState::Completed => "completed",
        ActivityState::Cancelled => "cancelled",
        ActivityState::Failed => "failed",
        ActivityState::TimedOut => "timed_out",
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; Prometheus has no other numbers")]
fn float(count: u64) -> f64 {
    count as f64
}

fn seconds(ms: u64) -> f64 {
    float(ms) / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        engine::{
            event::StagingListChange,
            reason::{HoldReason, PauseReason},
        },
        model::{
            batch::{BatchName, CutReason, Operation},
            call::CallKind,
            catalog::{
                Application, ApplicationId, Backfill, ClientIdHash, Connection, ConnectionId, Export, FieldId, ListRef, Mapping,
                NoAddress, OnErasure, OnExit, RemovalStrategy, Timing,
            },
            position::PartitionId,
        },
    };

    fn catalog() -> Catalog {
        let mapping = Mapping {
            email: FieldId(0),
            first_name: None,
            last_name: None,
            custom: Vec::new(),
            custom_names: Arc::from([]),
            hash: 0,
        };
        Catalog {
            applications: vec![Application {
                name: "app".into(),
                client_id_hash: ClientIdHash(0),
                calls_per_second: None,
                calls_per_day: None,
                reserved_for_others_percent: 0,
            }],
            connections: vec![Connection {
                name: "news".into(),
                application: ApplicationId(0),
                consent: None,
                refreshes: false,
                on_erasure: OnErasure::RemoveFromLists,
                contacts_max: None,
            }],
            exports: vec![Export {
                name: "vip".into(),
                connection: ConnectionId(0),
                list: ListRef::Id(crate::model::ListId::nil()),
                segments: Vec::new(),
                mapping,
                no_address: NoAddress::Skip,
                on_exit: OnExit::Keep,
                backfill: Backfill::FromSource,
                removal_strategies: vec![RemovalStrategy::Scan],
                profiles_per_hour_max: None,
                weight: 1,
                adopts_existing: false,
                removal_brake: None,
                starts_at_once: true,
            }],
            fields: vec!["email".into()],
            timing: Timing::default(),
            profiles_max: 1,
        }
    }

    #[test]
    fn every_event_that_counts_moves_its_metric() {
        let (export, operation, name) = (ExportId(0), Operation::Import, BatchName("b1".into()));
        let counts = RecordCounts { filtered: 2, ..RecordCounts::default() };
        for (event, line) in [
            (Event::RecordsRouted(counts), "listkeeper_records_total{outcome=\"filtered\",shard=\"3\"} 2"),
            (
                Event::BatchCut { name: name.clone(), export, operation, rows: 900, reason: CutReason::Age },
                "listkeeper_batches_total{export=\"vip\",operation=\"import\",reason=\"age\"} 1",
            ),
            (
                Event::CallEnded {
                    application: ApplicationId(0),
                    connection: ConnectionId(0),
                    export: Some(export),
                    kind: CallKind::Import,
                    result: CallResult::Refused(Disposition::Throttled),
                    took_ms: 10,
                },
                "listkeeper_calls_total{application=\"app\",export=\"vip\",kind=\"import\",result=\"throttled\"} 1",
            ),
            (
                Event::ActivityEnded { name: name.clone(), export, operation, state: ActivityState::Completed, took_ms: 1 },
                "listkeeper_activities_total{export=\"vip\",operation=\"import\",state=\"completed\"} 1",
            ),
            (
                Event::Applied {
                    export,
                    adds: 3,
                    updates: 0,
                    removals: 0,
                    at: UnixMillis(0),
                    vendor_ms: 0,
                    freshness_ms: vec![1_500],
                },
                "listkeeper_freshness_seconds_bucket{export=\"vip\",le=\"2\"} 1",
            ),
            (Event::Cancelled { export, contacts: 4 }, "listkeeper_changes_cancelled_total{export=\"vip\"} 4"),
            (Event::Parked { export, contacts: 5 }, "listkeeper_changes_parked_total{export=\"vip\"} 5"),
            (Event::RowsRefused { export, rows: 1 }, "listkeeper_rows_refused_total{export=\"vip\"} 1"),
            (
                Event::RemovalPlanned { export, strategy: RemovalStrategy::Scan, contacts: 9, calls: 2, other: None },
                "listkeeper_removal_plans_total{export=\"vip\",strategy=\"scan\"} 1",
            ),
            (
                Event::RoundEnded { export, contacts: 9, end: RoundEnd::Applied, in_two: false, ahead: false },
                "listkeeper_staging_rounds_total{end=\"applied\",export=\"vip\"} 1",
            ),
            (
                Event::StagingList { connection: ConnectionId(0), number: 7, change: StagingListChange::Made },
                "listkeeper_staging_lists_total{change=\"made\",connection=\"news\"} 1",
            ),
            (Event::LateAnswer { kind: None }, "listkeeper_late_answers_total 1"),
            (Event::BatchFound { name: name.clone() }, "listkeeper_batches_found_total 1"),
            (Event::BatchGivenUp { name }, "listkeeper_batches_given_up_total 1"),
            (Event::DeadLettered { letters: 1, reason: "malformed" }, "listkeeper_dead_letters_total{reason=\"malformed\"} 1"),
            (Event::Committed { changes: 1, took_ms: 100 }, "listkeeper_commits_total 1"),
        ] {
            let telemetry = Telemetry::new();
            telemetry.observe(3, &event, &catalog());
            let text = telemetry.encode().unwrap();
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn gauges_are_what_the_owned_shards_show_now() {
        use crate::engine::snapshot::{ConnectionView, ExportView};
        let telemetry = Telemetry::new();
        let next = |offset| NextOffset { partition: PartitionId(0), offset };
        let view = Snapshot {
            connections: vec![ConnectionView { name: "news".into(), held: Some(HoldReason::TokenDead), ..Default::default() }],
            exports: vec![ExportView { name: "vip".into(), members: 7, search_spent: 3, ..Default::default() }],
            watermarks: vec![next(40)],
            paused: Some(PauseReason::CommitBehind),
            ..Snapshot::default()
        };
        let ends = [next(100)];
        let shown = [ShardGauges { shard: 2, view: &view, ends: &ends }];
        let text = telemetry.scrape(&shown, &[("kafka", false)], UnixMillis(0)).unwrap();
        for line in [
            "listkeeper_held{holder=\"connection\",name=\"news\",reason=\"token_dead\"} 1",
            "listkeeper_paused{reason=\"commit_behind\",shard=\"2\"} 1",
            "listkeeper_members{export=\"vip\"} 7",
            "listkeeper_rows_search_spent{export=\"vip\"} 3",
            "listkeeper_lag_records{partition=\"0\",shard=\"2\"} 60",
            "listkeeper_dependency_up{dependency=\"kafka\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        let text = telemetry.scrape(&[], &[("kafka", true)], UnixMillis(0)).unwrap();
        assert!(!text.contains("token_dead") && !text.contains("listkeeper_members{"), "{text}");
    }

    #[test]
    fn names_follow_the_rules() {
        let telemetry = Telemetry::new();
        telemetry.observe(
            0,
            &Event::Applied {
                export: ExportId(0),
                adds: 1,
                updates: 1,
                removals: 1,
                at: UnixMillis(0),
                vendor_ms: 0,
                freshness_ms: Vec::new(),
            },
            &catalog(),
        );
        for family in telemetry.gather() {
            let name = family.name();
            assert!(name.starts_with("listkeeper_"), "{name}");
            assert!(!family.help().is_empty(), "{name}");
            let counts = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
            assert_eq!(counts, name.ends_with("_total"), "{name}");
        }
        assert_eq!(telemetry.applied_total("add"), 1);
    }
}
