//! `listkeeper run`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, validate::overrides};
use crate::{
    config::{self, Config},
    shell::stage::{Stage, StageFault, StageOptions},
    telemetry::{Telemetry, logging},
};

const LEARN_MORE: &str = "\
How it fares, on `admin.listen` (127.0.0.1:9464 unless the configuration says otherwise): /health says what stands still and \
what to do; /metrics is for Prometheus; /readyz and /livez are for Kubernetes.

On SIGTERM or Ctrl-C it sends nothing more that cannot finish within `timing.drain_seconds`, waits for what is in flight, \
commits, and leaves the group, so that a standby takes over at once. A second signal ends it at once; nothing is lost either \
way.

Exit status: 0 when it was stopped, 143 after a second signal, 78 when the configuration is refused, 69 when it cannot listen, \
70 when it cannot go on.

Example, with logs to read on a terminal:
  LISTKEEPER__LOG__FORMAT=text listkeeper run --config listkeeper.yaml";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct Arguments {
    /// The configuration file; variables such as LISTKEEPER__KAFKA__GROUP override its keys.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The address of this replica's admin port as other replicas reach it, such as the Pod's IP; stored in the group beside the
    /// shards that it owns. Without it: where it listens.
    #[arg(long, env = "LISTKEEPER_ADDRESS", value_name = "HOST:PORT")]
    pub address: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let refused = |message: String| CommandError { message, code: 78 };
    let config = config::load(&arguments.config, &overrides()).map_err(|errors| refused(errors.to_string()))?;
    config.ready().map_err(|not_yet| refused(not_yet.to_string()))?;
    let format = match config.log.format {
        config::LogFormat::Json => logging::LogFormat::Json,
        config::LogFormat::Text => logging::LogFormat::Text,
    };
    logging::begin(format, config.log.level).map_err(|message| CommandError { message, code: 70 })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError { message: format!("no runtime can be made: {error}"), code: 70 })?;
    let ended = runtime.block_on(run(config, StageOptions { address: arguments.address }));
    // Threads of Kafka's clients may wait for brokers that are gone; nothing that they do still counts.
    runtime.shutdown_background();
    ended
}

async fn run(config: Config, options: StageOptions) -> Result<ExitCode, CommandError> {
    let failed = |error: std::io::Error| CommandError { message: format!("signals cannot be received: {error}"), code: 70 };
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let telemetry = Arc::new(Telemetry::new().with_process());
    let mut stage = Stage::start(Arc::new(config), telemetry, options).await.map_err(|fault| command_error(&fault))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), admin = %stage.admin_address(), "listkeeper runs");
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        fault = stage.ended() => return Err(command_error(&fault)),
    }
    tracing::info!("asked to stop");
    tokio::select! {
        stopped = stage.stop() => stopped.map(|()| ExitCode::SUCCESS).map_err(|fault| command_error(&fault)),
        _ = terminated.recv() => Ok(ended_at_once()),
        _ = interrupted.recv() => Ok(ended_at_once()),
    }
}

fn ended_at_once() -> ExitCode {
    tracing::warn!("a second signal: ended at once; what was in flight is found again by the next owner");
    // As a shell counts a process that SIGTERM ended.
    ExitCode::from(143)
}

fn command_error(fault: &StageFault) -> CommandError {
    let code = match fault {
        StageFault::Admin { .. } => 69,
        StageFault::SchemaFile { .. } | StageFault::Schema(_) => 78,
        StageFault::Client(_) | StageFault::Registry(_) | StageFault::Kafka(_) | StageFault::Ended(_) => 70,
    };
    CommandError { message: fault.to_string(), code }
}
