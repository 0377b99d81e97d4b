//! `/exports`: what each export does, and what an operator orders of it.
//!
//! Orders are taken from this machine alone, as by `kubectl exec` or `kubectl port-forward`: nothing here asks who somebody
//! is. A page in a browser names its origin, and is refused.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    engine::snapshot::ExportView,
    model::{
        Text,
        control::{ControlAction, ControlOutcome},
    },
    shell::{
        stage::Shared,
        view::{Phase, ShardView},
    },
};

/// An order is in the state within a transaction or two, unless brokers are down.
const ANSWER: Duration = Duration::from_secs(30);
/// Asking the group for an owner.
const OWNER: Duration = Duration::from_secs(6);

/// One export of an owned shard.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    shard: u32,
    phase: Phase,
    #[serde(flatten)]
    view: &'a ExportView,
    /// What the hold means and what to do.
    explain: Option<String>,
}

impl<'a> Shown<'a> {
    fn all(shards: &'a [ShardView]) -> Vec<Self> {
        let exports = shards.iter().flat_map(|shard| shard.snapshot.exports.iter().map(move |view| (shard, view)));
        let shown = exports.map(|(shard, view)| Shown { shard: shard.shard, phase: shard.phase, view, explain: view.explain() });
        shown.collect()
    }
}

/// All exports of the shards that this replica owns.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let shards = shared.views.all();
    if shards.is_empty() {
        return elsewhere(&shared, 0).await;
    }
    Json(json!({ "exports": Shown::all(&shards) })).into_response()
}

/// One export.
pub(super) async fn show(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    let shards = shared.views.all();
    if let Some(shown) = Shown::all(&shards).into_iter().find(|shown| shown.view.name == name) {
        return Json(shown).into_response();
    }
    match shard_of(&shared, &name) {
        None => unknown(&name),
        Some(shard) if shards.iter().any(|owned| owned.shard == shard) => beginning(shard),
        Some(shard) => elsewhere(&shared, shard).await,
    }
}

/// An order.
pub(super) async fn order(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((name, word)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = may_order(peer, &headers) {
        return refused.into_response();
    }
    let Some(action) = ControlAction::ALL.into_iter().find(|action| action.as_str() == word) else {
        let words = ControlAction::ALL.map(ControlAction::as_str).join(", ");
        return error(StatusCode::NOT_FOUND, format!("no order is called so: {words} are there"));
    };
    let Some(shard) = shard_of(&shared, &name) else { return unknown(&name) };
    if !shared.orders.are_taken(shard) {
        let owned = shared.views.all().iter().any(|owned| owned.shard == shard);
        return if owned { beginning(shard) } else { elsewhere(&shared, shard).await };
    }
    match timeout(ANSWER, shared.orders.order(shard, Text::from(&name), action)).await {
        Ok(Some(ControlOutcome::Stopping)) => beginning(shard),
        Ok(Some(outcome)) => Json(json!({
            "export": name, "order": action.as_str(), "outcome": outcome.as_str(), "explain": explain(action, outcome),
        }))
        .into_response(),
        Ok(None) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "the term ended before it told what became of the order: look with `listkeeper export show`, and order again".into(),
        ),
        Err(_) => error(
            StatusCode::GATEWAY_TIMEOUT,
            "Kafka takes longer than 30 s to take the order, which may be in the state all the same: look with `listkeeper \
             export show`"
                .into(),
        ),
    }
}

/// Whether somebody may order anything.
fn may_order(peer: SocketAddr, headers: &HeaderMap) -> Result<(), (StatusCode, Json<serde_json::Value>)> {
    let refused = |text: &str| Err((StatusCode::FORBIDDEN, Json(json!({ "error": text }))));
    if !peer.ip().to_canonical().is_loopback() {
        return refused(
            "orders are taken from this machine alone: run `listkeeper export` beside the stage, as in `kubectl exec`",
        );
    }
    if headers.contains_key(header::ORIGIN) {
        return refused("orders are not taken from pages in a browser");
    }
    Ok(())
}

const fn explain(action: ControlAction, outcome: ControlOutcome) -> &'static str {
    match (action, outcome) {
        (ControlAction::Run, ControlOutcome::Unchanged) => "it was started before",
        (ControlAction::Run, _) => {
            "it is started: the stage finishes what is under way, then reads the source for it from the beginning"
        }
        (ControlAction::Pause, ControlOutcome::Unchanged) => "it was paused before",
        (ControlAction::Pause, _) => "it is paused: what comes is kept in the state, and only who was erased leaves its list",
        (ControlAction::Resume, ControlOutcome::Unchanged) => "it was not paused",
        (ControlAction::Resume, _) => "it goes on",
        (ControlAction::Approve, ControlOutcome::Unchanged) => "nothing of it waits for approval",
        (ControlAction::Approve, _) => "what waited to be removed goes; more than that is held again",
    }
}

fn shard_of(shared: &Shared, name: &str) -> Option<u32> {
    let catalog = &shared.config.catalog;
    let export = catalog.exports.iter().find(|export| export.name == name)?;
    let application = catalog.application(catalog.connection(export.connection).application);
    Some(application.shard(shared.config.state.shards))
}

fn error(status: StatusCode, text: String) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

fn unknown(name: &str) -> Response {
    error(StatusCode::NOT_FOUND, format!("the configuration of the stage has no export `{name}`"))
}

fn beginning(shard: u32) -> Response {
    let text = format!("shard {shard} takes no orders now: its term begins, ends, or is held; `/health` says which");
    error(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// Another replica owns the shard.
async fn elsewhere(shared: &Arc<Shared>, shard: u32) -> Response {
    let claim = shared.claim();
    let asked = tokio::task::spawn_blocking(move || claim.and_then(|claim| claim.owner(shard).ok().flatten()));
    let owner = timeout(OWNER, asked).await.ok().and_then(Result::ok).flatten().filter(|owner| *owner != shared.address());
    let text = match &owner {
        Some(owner) => format!("this replica does not own shard {shard}: ask its owner at {owner}"),
        None => format!("this replica does not own shard {shard}, and knows no other that does"),
    };
    (StatusCode::MISDIRECTED_REQUEST, Json(json!({ "error": text, "owner": owner }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_from_this_machine_and_from_no_page() {
        let may = |peer: &str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(origin.map(|origin| (header::ORIGIN, header::HeaderValue::from_static(origin))));
            may_order(peer.parse().unwrap(), &headers).is_ok()
        };
        assert!(may("127.0.0.1:5000", None) && may("[::1]:5000", None) && may("[::ffff:127.0.0.1]:5000", None));
        assert!(!may("10.0.0.7:5000", None));
        assert!(!may("127.0.0.1:5000", Some("https://example.com")));
    }
}
