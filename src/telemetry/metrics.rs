//! The metrics, all in one place. Names follow Prometheus' rules, with the prefix `listkeeper_`.

use std::sync::Mutex;

use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Seconds from a record's timestamp to the end of the activity that applied it.
const FRESHNESS_BUCKETS_SECONDS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0,
];
/// Seconds that an activity takes at the vendor.
const ACTIVITY_BUCKETS_SECONDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];
/// Seconds that a call or a transaction takes.
const CALL_BUCKETS_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Every metric of one process, with the registry that they are in. Several may live in one process.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    pub(super) records: IntCounterVec,
    pub(super) applied: IntCounterVec,
    pub(super) cancelled: IntCounterVec,
    pub(super) parked: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) suppressed: IntCounterVec,
    pub(super) contacts_deleted: IntCounterVec,
    pub(super) cannot_add: IntCounterVec,
    pub(super) suppressed_contacts: IntGaugeVec,
    pub(super) suppressed_adds: IntGaugeVec,
    pub(super) account_contacts: IntGaugeVec,
    pub(super) account_contacts_max: IntGaugeVec,
    pub(super) adds_without_room: IntGaugeVec,
    pub(super) search_spent: IntGaugeVec,
    pub(super) flapping: IntCounterVec,
    pub(super) flapping_changes: IntGaugeVec,
    pub(super) removals_held_back: IntGaugeVec,
    pub(super) batches: IntCounterVec,
    pub(super) batch_rows: HistogramVec,
    pub(super) batches_found: IntCounter,
    pub(super) batches_given_up: IntCounter,
    pub(super) ghosts: IntCounter,
    pub(super) calls: IntCounterVec,
    pub(super) call_seconds: HistogramVec,
    pub(super) late_answers: IntCounter,
    pub(super) activities: IntCounterVec,
    pub(super) activity_seconds: HistogramVec,
    pub(super) freshness_seconds: HistogramVec,
    pub(super) dead_letters: IntCounterVec,
    pub(super) commits: IntCounter,
    pub(super) commit_seconds: Histogram,
    pub(super) removal_plans: IntCounterVec,
    pub(super) staging_rounds: IntCounterVec,
    pub(super) staging_lists: IntCounterVec,
    pub(super) held: IntGaugeVec,
    pub(super) paused: IntGaugeVec,
    pub(super) calls_used: IntGaugeVec,
    pub(super) calls_left: IntGaugeVec,
    pub(super) call_price_waiting_seconds: GaugeVec,
    pub(super) profiles: IntGaugeVec,
    pub(super) members: IntGaugeVec,
    pub(super) waiting: IntGaugeVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) profiles_last_hour: IntGaugeVec,
    pub(super) profiles_per_hour_max: IntGaugeVec,
    pub(super) oldest_unapplied_seconds: GaugeVec,
    pub(super) activities_open: IntGaugeVec,
    pub(super) oldest_activity_seconds: GaugeVec,
    pub(super) token_expiry_seconds: GaugeVec,
    pub(super) records_unsettled: IntGaugeVec,
    pub(super) buffered_bytes: IntGaugeVec,
    pub(super) backfill_offsets_left: IntGaugeVec,
    pub(super) lag_records: IntGaugeVec,
    pub(super) watermark: IntGaugeVec,
    pub(super) owner: IntGaugeVec,
    pub(super) dependency_up: IntGaugeVec,
    /// Gauges are made anew for each scrape.
    pub(super) scraping: Mutex<()>,
}

/// Makes metrics and registers each. A name or label that breaks Prometheus' rules is a fault of this file, which its
/// test finds.
struct Maker(Registry);

impl Maker {
    fn keep<C: prometheus::core::Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let kept = made.and_then(|collector| self.0.register(Box::new(collector.clone())).map(|()| collector));
        kept.unwrap_or_else(|error| unreachable!("a metric of ours: {error}"))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.keep(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn counts(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }
}

impl Telemetry {
    /// All metrics, at nothing yet, in a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        let make = Maker(Registry::new());
        Self {
            records: make.counters(
                "listkeeper_records_total",
                "Records of the source by what became of them; every shard reads all of them",
                &["shard", "outcome"],
            ),
            applied: make.counters(
                "listkeeper_profiles_applied_total",
                "Rows of completed activities: profiles that joined a list, had their fields updated, or left it",
                &["export", "operation"],
            ),
            cancelled: make.counters(
                "listkeeper_changes_cancelled_total",
                "Contacts whose changes cancelled each other before they were sent",
                &["export"],
            ),
            parked: make.counters(
                "listkeeper_changes_parked_total",
                "Contacts whose changes waited so long that their events were settled; what is to be sent is in the state",
                &["export"],
            ),
            contacts_deleted: make.counters(
                "listkeeper_contacts_deleted_total",
                "Contacts deleted in their account because their profile was erased",
                &["export"],
            ),
            suppressed: make.counters(
                "listkeeper_adds_suppressed_total",
                "Adds that were not sent because the account has their contacts as deleted or unsubscribed",
                &["export"],
            ),
            cannot_add: make.counters(
                "listkeeper_adds_unexplained_total",
                "Contacts that an activity could not add to its list, and that are not shown as deleted or unsubscribed",
                &["export"],
            ),
            suppressed_contacts: make.counts(
                "listkeeper_suppressed_contacts",
                "Deleted and unsubscribed contacts of an account, which imports never touch",
                &["connection"],
            ),
            suppressed_adds: make.counts(
                "listkeeper_adds_suppressed",
                "Adds that are kept and not sent, because their contacts were deleted or have unsubscribed",
                &["export"],
            ),
            flapping: make.counters(
                "listkeeper_changes_flapping_total",
                "Adds and updates that were parked because their address was sent five times within 24 hours",
                &["export"],
            ),
            flapping_changes: make.counts(
                "listkeeper_changes_flapping",
                "Adds and updates that are parked because their address was sent five times within 24 hours; each goes by itself",
                &["export"],
            ),
            account_contacts: make.counts(
                "listkeeper_account_contacts",
                "Active contacts that an account has at most, where its contract limits them: as counted last, and our adds since",
                &["connection"],
            ),
            account_contacts_max: make.counts(
                "listkeeper_account_contacts_max",
                "Active contacts that the account's contract allows",
                &["connection"],
            ),
            adds_without_room: make.counts(
                "listkeeper_adds_without_room",
                "Adds that are kept and not sent, because the account has as many contacts as its contract allows",
                &["export"],
            ),
            search_spent: make.counts(
                "listkeeper_rows_search_spent",
                "Rows that are kept and not sent again: some were refused, and the search for which is spent",
                &["export"],
            ),
            removals_held_back: make.counts(
                "listkeeper_removals_held_back",
                "Removals that wait for the operator, because their export is paused or the removal brake holds it",
                &["export"],
            ),
            refused: make.counters("listkeeper_rows_refused_total", "Rows that the vendor refused for good", &["export"]),
            batches: make.counters(
                "listkeeper_batches_total",
                "Batches by operation and by why they were cut",
                &["export", "operation", "reason"],
            ),
            batch_rows: make.histograms(
                "listkeeper_batch_rows",
                "Rows in a batch",
                &[1.0, 10.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 20_000.0, 39_999.0],
                &["operation"],
            ),
            batches_found: make
                .counter("listkeeper_batches_found_total", "Batches without an answer that were found by their name"),
            batches_given_up: make.counter(
                "listkeeper_batches_given_up_total",
                "Batches without an answer that were not found twice, and whose contacts are sent again",
            ),
            ghosts: make.counter(
                "listkeeper_batches_haunted_total",
                "Batches that were given up and ended after all, and whose contacts are sent again",
            ),
            calls: make.counters(
                "listkeeper_calls_total",
                "Requests to the vendor by what they were for and how they ended",
                &["application", "export", "kind", "result"],
            ),
            call_seconds: make.histograms(
                "listkeeper_call_seconds",
                "Seconds from handing a request over until its answer",
                CALL_BUCKETS_SECONDS,
                &["kind"],
            ),
            late_answers: make.counter("listkeeper_late_answers_total", "Answers to requests that this term does not know"),
            activities: make.counters(
                "listkeeper_activities_total",
                "Bulk activities by how they ended",
                &["export", "operation", "state"],
            ),
            activity_seconds: make.histograms(
                "listkeeper_activity_seconds",
                "Seconds that the vendor takes for an activity",
                ACTIVITY_BUCKETS_SECONDS,
                &["operation"],
            ),
            freshness_seconds: make.histograms(
                "listkeeper_freshness_seconds",
                "For each applied change, seconds from its record's timestamp to the end of the activity",
                FRESHNESS_BUCKETS_SECONDS,
                &["export"],
            ),
            dead_letters: make.counters("listkeeper_dead_letters_total", "Records that became dead letters", &["reason"]),
            commits: make.counter("listkeeper_commits_total", "Kafka transactions that were confirmed"),
            commit_seconds: make.keep(Histogram::with_opts(
                HistogramOpts::new("listkeeper_commit_seconds", "Seconds that a Kafka transaction takes")
                    .buckets(CALL_BUCKETS_SECONDS.to_vec()),
            )),
            removal_plans: make.counters(
                "listkeeper_removal_plans_total",
                "Sets of removals by the way that was chosen",
                &["export", "strategy"],
            ),
            staging_rounds: make.counters(
                "listkeeper_staging_rounds_total",
                "Removals by a staging list, by how they ended",
                &["export", "end"],
            ),
            staging_lists: make.counters(
                "listkeeper_staging_lists_total",
                "Staging lists that were made, condemned or deleted",
                &["connection", "change"],
            ),
            held: make.counts(
                "listkeeper_held",
                "1 while somebody does not send, for this reason",
                &["holder", "name", "reason"],
            ),
            paused: make.counts(
                "listkeeper_paused",
                "1 while reading is paused, of some partitions or all, for this reason",
                &["shard", "reason"],
            ),
            calls_used: make.counts(
                "listkeeper_calls_used",
                "Calls that may have been spent today, by the vendor's clock",
                &["application"],
            ),
            calls_left: make.counts("listkeeper_calls_left", "Calls left today, by the vendor's clock", &["application"]),
            call_price_waiting_seconds: make.gauges(
                "listkeeper_call_price_waiting_seconds",
                "Waiting of changes, added up, that a call has to save now; 0 while there are calls for everybody",
                &["application"],
            ),
            profiles: make.counts("listkeeper_profiles", "Profiles that an export keeps a record of", &["export"]),
            members: make.counts("listkeeper_members", "Contacts of ours on an export's list, as confirmed", &["export"]),
            waiting: make.counts("listkeeper_changes_waiting", "Changes that wait to be sent", &["export"]),
            in_flight: make.counts("listkeeper_changes_in_flight", "Changes in open batches", &["export"]),
            profiles_last_hour: make.counts(
                "listkeeper_profiles_last_hour",
                "Profiles moved in the last 60 minutes",
                &["export"],
            ),
            profiles_per_hour_max: make.counts(
                "listkeeper_profiles_per_hour_max",
                "The ceiling of profiles in any 60 minutes",
                &["export"],
            ),
            oldest_unapplied_seconds: make.gauges(
                "listkeeper_oldest_unapplied_seconds",
                "Age of the oldest change that is not applied",
                &["export"],
            ),
            activities_open: make.counts("listkeeper_activities_open", "Activities that may still run", &["connection"]),
            oldest_activity_seconds: make.gauges(
                "listkeeper_oldest_activity_seconds",
                "Age of the oldest activity that may still run",
                &["connection"],
            ),
            token_expiry_seconds: make.gauges(
                "listkeeper_token_expiry_seconds",
                "Seconds until the access token ends",
                &["connection"],
            ),
            records_unsettled: make.counts("listkeeper_records_unsettled", "Delivered records that are not settled", &["shard"]),
            buffered_bytes: make.counts("listkeeper_buffered_bytes", "Bytes of rows and addresses that wait", &["shard"]),
            backfill_offsets_left: make.counts(
                "listkeeper_backfill_offsets_left",
                "Offsets of the source that are still to be read again for segments that are routed anew",
                &["shard"],
            ),
            lag_records: make.counts(
                "listkeeper_lag_records",
                "Records between the watermark and the end of the source",
                &["shard", "partition"],
            ),
            watermark: make.counts("listkeeper_watermark", "Offset below which everything is settled", &["shard", "partition"]),
            dependency_up: make.counts(
                "listkeeper_dependency_up",
                "1 while what the stage rests on answers: the Kafka brokers, the schema registry, the vendor's API",
                &["dependency"],
            ),
            owner: make.counts("listkeeper_owner", "1 while this replica owns the shard", &["shard"]),
            scraping: Mutex::default(),
            registry: make.0,
        }
    }

    /// Also shows the process's own figures (memory, CPU, descriptors).
    #[must_use]
    pub fn with_process(self) -> Self {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        if let Err(error) = self.registry.register(Box::new(process)) {
            tracing::warn!(%error, "the process's own figures are not shown");
        }
        self
    }

    /// The metrics in Prometheus' text format.
    ///
    /// # Errors
    /// The encoder's, which means a fault in a metric.
    pub fn encode(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }

    pub(super) fn reset_gauges(&self) {
        for gauges in [
            &self.held,
            &self.paused,
            &self.calls_used,
            &self.calls_left,
            &self.profiles,
            &self.members,
            &self.waiting,
            &self.in_flight,
            &self.suppressed_contacts,
            &self.suppressed_adds,
            &self.account_contacts,
            &self.account_contacts_max,
            &self.adds_without_room,
            &self.search_spent,
            &self.flapping_changes,
            &self.removals_held_back,
            &self.profiles_last_hour,
            &self.profiles_per_hour_max,
            &self.activities_open,
            &self.records_unsettled,
            &self.buffered_bytes,
            &self.backfill_offsets_left,
            &self.lag_records,
            &self.watermark,
            &self.owner,
            &self.dependency_up,
        ] {
            gauges.reset();
        }
        for gauges in [
            &self.oldest_unapplied_seconds,
            &self.oldest_activity_seconds,
            &self.token_expiry_seconds,
            &self.call_price_waiting_seconds,
        ] {
            gauges.reset();
        }
    }

    /// Rows of completed activities by operation (`add`, `update`, `remove`), over all exports.
    #[must_use]
    pub fn applied_total(&self, operation: &str) -> u64 {
        self.sum("listkeeper_profiles_applied_total", &[("operation", operation)])
    }

    /// Contacts whose changes cancelled each other before they were sent.
    #[must_use]
    pub fn cancelled_total(&self) -> u64 {
        self.sum("listkeeper_changes_cancelled_total", &[])
    }

    /// Records that became dead letters.
    #[must_use]
    pub fn dead_letters_total(&self) -> u64 {
        self.sum("listkeeper_dead_letters_total", &[])
    }

    /// The sum of a counter over those of its series that have these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let families = self.registry.gather();
        let series = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        let wanted = series.filter(|metric| {
            labels
                .iter()
                .all(|(name, value)| metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value))
        });
        // Counters of events count in whole numbers, and stay far below 2^53.
        wanted.map(|metric| whole(metric.get_counter().get_value())).sum()
    }

    #[cfg(test)]
    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of whole numbers, never negative")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}
