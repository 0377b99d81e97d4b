//! The admin port: metrics, probes, and whether work is moving.
//!
//! `/livez` says that the process answers, `/readyz` that it is a member of the group (as owner or standby), `/health`
//! whether work is moving and, if not, why and what to do. A dead token or a spent day makes a replica neither dead nor
//! unready: another one could do no more.

mod exports;
mod health;

pub(super) use self::health::waits_for_the_dead;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;

use crate::telemetry::ShardGauges;

use super::{clock, stage::Shared};

/// What whoever comes without a path is told.
const PATHS: &str = "Listkeeper\n\n  /health   is work moving, and if not, why and what to do\n  /metrics  for Prometheus\n  \
    /readyz   a member of the group, as owner or standby\n  /livez    the process answers\n  \
    /exports  what each export does; POST /exports/NAME/run, pause, resume or approve\n";

/// Serves until its task is ended.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/", get(|| async { PATHS }))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/exports", get(exports::list))
        .route("/exports/{name}", get(exports::show))
        .route("/exports/{name}/{order}", post(exports::order))
        .with_state(shared);
    axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if shared.views.is_joined() {
        return "ready\n".into_response();
    }
    let waits = shared.views.waits_for().unwrap_or_else(|| "the Kafka brokers have not answered yet".into());
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {waits}\n")).into_response()
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let health = health::of(&shared);
    let status = if health.moving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let shards = shared.views.all();
    let gauges: Vec<ShardGauges<'_>> =
        shards.iter().map(|shard| ShardGauges { shard: shard.shard, view: &shard.snapshot, ends: &shard.ends }).collect();
    let up = health::dependencies(&shared, &shards);
    match shared.telemetry.scrape(&gauges, &up, clock::wall()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
