//! Whether work is moving, and if not, why and what to do.

use serde::Serialize;

use crate::{
    engine::reason::{HoldReason, PauseReason},
    shell::{
        kafka::KafkaView,
        stage::Shared,
        view::{Phase, ShardView},
    },
};

/// What `/health` answers with.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    /// False when something that should move does not, for one of the reasons.
    pub(super) moving: bool,
    role: Role,
    reasons: Vec<Reason>,
    /// What is worth knowing and stops nothing.
    remarks: Vec<String>,
    shards: Vec<ShardView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    /// Not a member of the group yet.
    Starting,
    /// Owns at least one shard.
    Owner,
    /// Owns none, and takes over when an owner goes.
    Standby,
}

/// Why something does not move.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Reason {
    /// Who: `kafka`, `registry`, `shard 0`, `application main`, `connection news`, `export vip`.
    who: String,
    /// One word, as in the metrics.
    reason: &'static str,
    /// What it means and what to do.
    explain: String,
    /// False for what only slows down, or is the operator's own wish.
    stops: bool,
}

/// Health as of now.
pub(super) fn of(shared: &Shared) -> Health {
    let shards = shared.views.all();
    let kafka = shared.status.view();
    let mut reasons = surroundings(&kafka, shared.views.waits_for());
    for shard in &shards {
        reasons_of(shard, &mut reasons);
    }
    if reasons.is_empty() && !shared.views.is_joined() {
        let explain = "waiting for the Kafka brokers' first answer, to look at the topics and join the group".to_owned();
        reasons.push(Reason { who: "kafka".into(), reason: "joining", explain, stops: false });
    }
    let role = match (shared.views.is_joined(), shards.is_empty()) {
        (false, _) => Role::Starting,
        (true, true) => Role::Standby,
        (true, false) => Role::Owner,
    };
    Health { moving: !reasons.iter().any(|reason| reason.stops), role, reasons, remarks: kafka.remarks, shards }
}

/// What the stage rests on, and whether it answers.
pub(super) fn dependencies(shared: &Shared, shards: &[ShardView]) -> Vec<(&'static str, bool)> {
    let kafka = shared.status.view();
    let unreachable = |shard: &ShardView| {
        shard.snapshot.connections.iter().any(|connection| connection.held == Some(HoldReason::ApiUnreachable))
    };
    let mut up = vec![("kafka", kafka.brokers_down.is_empty()), ("constant_contact", !shards.iter().any(unreachable))];
    if shared.registry.is_some() {
        up.push(("schema_registry", kafka.registry_down.is_none()));
    }
    up
}

fn surroundings(kafka: &KafkaView, waits_for: Option<String>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some((client, detail)) = kafka.brokers_down.first_key_value() {
        let explain = format!("no broker answers ({client}: {detail}): it goes on by itself when one does");
        reasons.push(Reason { who: "kafka".into(), reason: "brokers_unreachable", explain, stops: true });
    }
    if let Some(detail) = &kafka.registry_down {
        let explain = format!("events wait for their schema ({detail}): it goes on by itself when the registry answers");
        reasons.push(Reason { who: "registry".into(), reason: "registry_unreachable", explain, stops: true });
    }
    if let Some(problem) = waits_for {
        reasons.push(Reason { who: "kafka".into(), reason: "topics_not_ready", explain: problem, stops: true });
    }
    reasons
}

/// What a shard waits for after an owner that did not end in order.
pub(in crate::shell) fn waits_for_the_dead(ms: u64) -> String {
    format!(
        "the owner before did not end in order: calls begin in {} s, when no request of it can be under way",
        ms.div_ceil(1_000)
    )
}

fn reasons_of(shard: &ShardView, reasons: &mut Vec<Reason>) {
    let who = format!("shard {}", shard.shard);
    if let Some(problem) = &shard.problem {
        let explain = format!("{problem}: it begins again by itself");
        reasons.push(Reason { who: who.clone(), reason: "term_failed", explain, stops: true });
    } else if shard.phase == Phase::Beginning {
        let explain = "the state is being read".to_owned();
        reasons.push(Reason { who: who.clone(), reason: "beginning", explain, stops: false });
    }
    let view = &shard.snapshot;
    let mut held = |who: String, reason: Option<HoldReason>, explain: Option<String>| {
        if let Some(reason) = reason {
            let explain = explain.unwrap_or_else(|| reason.explain().to_owned());
            // What the operator has not started, or has paused, is not stuck.
            let stops = !matches!(reason, HoldReason::NotStarted | HoldReason::Paused);
            reasons.push(Reason { who, reason: reason.as_str(), explain, stops });
        }
    };
    held(who.clone(), view.held, None);
    view.applications.iter().for_each(|one| held(format!("application {}", one.name), one.held, None));
    view.connections.iter().for_each(|one| held(format!("connection {}", one.name), one.held, None));
    view.exports.iter().for_each(|one| held(format!("export {}", one.name), one.held, one.explain()));
    if let Some(ms) = view.calls_begin_in_ms {
        reasons.push(Reason { who: who.clone(), reason: "owner_died", explain: waits_for_the_dead(ms), stops: false });
    }
    let waits = (!view.waiting_partitions.is_empty()).then_some(PauseReason::OlderPartitions);
    for paused in view.paused.into_iter().chain(waits) {
        let stops = paused == PauseReason::ProfilesMax;
        let explain = paused.explain().to_owned();
        reasons.push(Reason { who: who.clone(), reason: paused.as_str(), explain, stops });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        Snapshot,
        snapshot::{ConnectionView, ExportView},
    };

    #[test]
    fn reasons_say_who_and_what_to_do() {
        let snapshot = Snapshot {
            connections: vec![ConnectionView { name: "news".into(), held: Some(HoldReason::TokenDead), ..Default::default() }],
            exports: vec![ExportView { name: "vip".into(), held: Some(HoldReason::NotStarted), ..Default::default() }],
            paused: Some(PauseReason::ChangesWaiting),
            calls_begin_in_ms: Some(35_001),
            ..Snapshot::default()
        };
        let mut reasons = Vec::new();
        reasons_of(&ShardView { phase: Phase::Running, snapshot, ..ShardView::beginning(0) }, &mut reasons);
        let seen: Vec<(&str, &str, bool)> =
            reasons.iter().map(|reason| (reason.who.as_str(), reason.reason, reason.stops)).collect();
        assert_eq!(
            seen,
            [
                ("connection news", "token_dead", true),
                ("export vip", "not_started", false),
                ("shard 0", "owner_died", false),
                ("shard 0", "changes_waiting", false)
            ]
        );
        assert!(reasons.iter().all(|reason| reason.explain.len() > 20));
        assert!(reasons[2].explain.contains("in 36 s"), "{}", reasons[2].explain);
    }

    #[test]
    fn brokers_that_do_not_answer_stop_the_work() {
        let kafka = KafkaView { brokers_down: [("ownership".to_owned(), "all down".to_owned())].into(), ..KafkaView::default() };
        let reasons = surroundings(&kafka, None);
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].stops && reasons[0].explain.contains("ownership"));
    }
}
