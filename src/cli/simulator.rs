//! `listkeeper simulator`.

use std::{io::Write as _, net::SocketAddr, process::ExitCode, time::Duration};

use super::CommandError;
use crate::{
    shell::simulator_host::{SimulatorHost, wall},
    simulator::constant_contact::{ActivityTime, Vendor, VendorConfig},
};

const LEARN_MORE: &str = "\
It begins empty, keeps everything in memory, and says which two addresses to put under `constant_contact` of a configuration. \
It takes any client secret, and any refresh token that it has not seen used. Activities take seconds, as those of the vendor do, and its limits \
are the documented ones.

Example, with the addresses always the same:
  listkeeper simulator --listen 127.0.0.1:8080";

/// Arguments of `simulator`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LEARN_MORE)]
pub struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The one bearer token to accept; without it any is accepted.
    #[arg(long, value_name = "TOKEN")]
    access_token: Option<String>,
    /// Lift the rate limits and complete activities at once.
    #[arg(long)]
    fast: bool,
    /// Decides ids, tokens and durations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each activity takes, whatever its size.
    #[arg(long, value_name = "SECONDS")]
    activity_seconds: Option<f64>,
    /// Requests in any second [default: 4].
    #[arg(long, value_name = "N")]
    calls_per_second: Option<u32>,
    /// Requests in a day of UTC [default: 10000].
    #[arg(long, value_name = "N")]
    calls_per_day: Option<u32>,
    /// Serve an account for each API key, with limits of its own: the key is the client id, or the access token where that is
    /// fixed. The paths under /_simulator take `?account=KEY`.
    #[arg(long)]
    account_for_each_key: bool,
    /// Print one line of JSON when it listens.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn config(&self) -> Result<VendorConfig, CommandError> {
        let default = VendorConfig { seed: self.seed, access_token: self.access_token.clone(), ..VendorConfig::default() };
        let limit = |given: Option<u32>, usual| given.or(if self.fast { None } else { usual });
        let activity_ms = match self.activity_seconds {
            None => default.activity_ms,
            Some(seconds) => {
                let time = Duration::try_from_secs_f64(seconds).map_err(|_| CommandError {
                    message: "--activity-seconds must be a number that is not negative".to_owned(),
                    code: 64,
                })?;
                let base_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                ActivityTime { queued_ms: 0, base_ms, per_1000_rows_ms: 0, jitter_percent: 0 }
            }
        };
        Ok(VendorConfig {
            calls_per_second: limit(self.calls_per_second, default.calls_per_second),
            calls_per_day: limit(self.calls_per_day, default.calls_per_day),
            token_calls_per_second: limit(None, default.token_calls_per_second),
            instant: self.fast && self.activity_seconds.is_none(),
            activity_ms,
            ..default
        })
    }
}

/// Runs the command.
///
/// # Errors
/// See [`CommandError`].
pub fn execute(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let config = arguments.config()?;
    let failed = |error: std::io::Error| CommandError { message: format!("simulator: {error}"), code: 74 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
        let host = if arguments.account_for_each_key {
            SimulatorHost::start_for_each_key(arguments.listen, config).await
        } else {
            SimulatorHost::start(arguments.listen, Vendor::new(config, wall())).await
        };
        let host = host.map_err(|error| CommandError {
            message: format!("simulator: cannot listen on {}: {error}; choose another --listen", arguments.listen),
            code: 69,
        })?;
        let text = announcement(&host, arguments.json);
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(failed)?;
        drop(stdout);
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        host.stop().await.map_err(failed)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn announcement(host: &SimulatorHost, json: bool) -> String {
    let (address, api) = (host.address(), host.api());
    if json {
        return format!("{}\n", serde_json::json!({ "listening": format!("http://{address}"), "api": api }));
    }
    format!(
        "A simulated Constant Contact account listens on http://{address}\n\n\
         Point the configuration at it:\n\n  constant_contact:\n    api_url: {api}\n    token_url: http://{address}/oauth2/token\n\n\
         What it saw:  curl http://{address}/_simulator/report\nStop it with Ctrl-C.\n"
    )
}
