//! The demo's folder: a configuration as an operator would write it, and the files that it names.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    codec::writer::SEGMENT_MEMBERSHIP_CHANGED,
    config::{self, Config, ConfigErrors, Secrets},
    simulator::constant_contact::{OauthClient, VendorConfig},
};

use super::workload::{Home, Segments};

/// The folder and what was written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// The configuration in it.
    pub config: PathBuf,
}

/// Where things are that the configuration names.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The brokers, as host:port.
    pub brokers: &'a str,
    /// The simulated API.
    pub api: &'a str,
    /// Its token endpoint.
    pub token: &'a str,
}

/// The application that the simulated account knows. Nothing here opens any real door.
fn client() -> OauthClient {
    OauthClient {
        client_id: "demo-client".to_owned(),
        client_secret: "demo-secret".to_owned(),
        refresh_token: "demo-refresh-token".to_owned(),
    }
}

/// The simulated account: with the documented limits, or without limits and delays.
#[must_use]
pub fn vendor(seed: u64, fast: bool) -> VendorConfig {
    let documented = VendorConfig {
        seed,
        oauth_clients: vec![client()],
        // Nobody has this one: so the stage must refresh its token, as with the real account.
        access_token: Some("demo-token-of-nobody".to_owned()),
        ..VendorConfig::default()
    };
    if !fast {
        return documented;
    }
    VendorConfig { calls_per_second: None, calls_per_day: None, token_calls_per_second: None, instant: true, ..documented }
}

/// The demo's segments: two feed one list, one is left again, and one belongs to no list.
#[must_use]
pub fn segments() -> Segments {
    let names = ["newsletter-subscribers", "vip-gold", "vip-platinum", "trial-active", "website-visitors"];
    Segments {
        names: names.map(str::to_owned).to_vec(),
        homes: vec![
            Home { segment: 0, sibling: None, weight: 70 },
            Home { segment: 1, sibling: Some(2), weight: 18 },
            Home { segment: 2, sibling: Some(1), weight: 12 },
        ],
        leaving: 3,
        unrouted: 4,
    }
}

/// Makes a folder that nobody else may read, and writes everything into it.
///
/// # Errors
/// The system's.
pub fn write(places: Places<'_>, fast: bool) -> io::Result<Folder> {
    let path = new_folder()?;
    let client = client();
    let file = |name: &str, text: &str| {
        let file = path.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?.write_all(text.as_bytes())?;
        Ok::<PathBuf, io::Error>(file)
    };
    let schema = file("SegmentMembershipChanged.avsc", SEGMENT_MEMBERSHIP_CHANGED)?;
    let secret = file("client-secret", &client.client_secret)?;
    let token = serde_json::json!({ "client_id": client.client_id, "refresh_token": client.refresh_token });
    let token = file("token.json", &token.to_string())?;
    let config = file("listkeeper.yaml", &yaml(places, fast, &client.client_id, [&schema, &secret, &token]))?;
    Ok(Folder { path, config })
}

fn new_folder() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    for attempt in 0..1_000_u32 {
        let path = base.join(format!("listkeeper-demo-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return fs::canonicalize(path),
            // Of an earlier process with this number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a folder"))
}

fn yaml(places: Places<'_>, fast: bool, client_id: &str, [schema, secret, token]: [&Path; 3]) -> String {
    // A JSON text is a YAML text, whatever is in a path.
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let (schema, secret, token) = (quoted(schema), quoted(secret), quoted(token));
    let Places { brokers, api, token: token_url } = places;
    let limits = if fast {
        "{ calls_per_second: unlimited, calls_per_day: unlimited }   # --fast lifts them on both sides"
    } else {
        "{ calls_per_second: 4, calls_per_day: 10000 }   # the documented limits of an API key"
    };
    format!(
        r#"# Written by `listkeeper demo`. Kafka and the account that it names lived as long as that command.
kafka: {{ brokers: [{brokers}], group: listkeeper-demo }}
source:
  topic: segment-membership
  avro: {{ schema_file: {schema} }}
log: {{ format: text, level: warn }}
constant_contact: {{ api_url: {api}, token_url: {token_url} }}
admin: {{ listen: 127.0.0.1:0 }}
applications:
  demo:
    client_id: {client_id}
    client_secret_file: {secret}
    refresh_tokens: rotating
    limits: {limits}
connections:
  newsletter:
    display_name: Simulated account
    application: demo
    exporting_user: demo
    privacy_consent: {{ accepted_by: demo, accepted_at: "2026-01-01T00:00:00Z", text: v1 }}
    token_store: {{ file: {token} }}
exports:
  newsletter:
    connection: newsletter
    list: {{ name: Newsletter subscribers, create: true }}
    segments: [newsletter-subscribers]
    fields: {{ email: profile.email, first_name: profile.first_name, last_name: profile.last_name }}
    profiles_per_hour_max: unlimited   # lifted, to see what the rest allows
    starts: at_once
  trial:
    connection: newsletter
    list: {{ name: Trial participants, create: true }}
    segments: [trial-active]
    fields: {{ email: profile.email, first_name: profile.first_name, last_name: profile.last_name }}
    removals: {{ hold_above_percent: 100 }}   # everybody is expected to leave it
    profiles_per_hour_max: unlimited
    starts: at_once
  vip:
    connection: newsletter
    list: {{ name: VIP customers, create: true }}
    segments: [vip-gold, vip-platinum]   # a profile in any of them is on the list
    fields: {{ email: profile.email, first_name: profile.first_name, last_name: profile.last_name, custom: {{ Loyalty tier: profile.attributes.tier }} }}
    profiles_per_hour_max: unlimited
    starts: at_once
"#
    )
}

/// Loads what was written, as `run` would.
///
/// # Errors
/// All faults at once.
pub fn load(folder: &Folder) -> Result<Config, ConfigErrors> {
    // No overrides: the demo is the same whatever the environment says.
    config::load_with(&folder.config, &BTreeMap::new(), Secrets::Read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_that_run_takes_and_routes_all_segments_but_one() {
        for fast in [false, true] {
            let places =
                Places { brokers: "127.0.0.1:1", api: "http://127.0.0.1:2/v3", token: "http://127.0.0.1:2/oauth2/token" };
            let folder = write(places, fast).expect("a folder");
            let config = load(&folder).expect("no errors");
            fs::remove_dir_all(&folder.path).expect("removed");
            config.ready().expect("nothing that is not there yet");
            let routed: Vec<&str> = config.catalog.exports.iter().flat_map(|of| &of.segments).map(|text| text.as_str()).collect();
            let segments = segments();
            for (number, name) in segments.names.iter().enumerate() {
                assert_eq!(!routed.contains(&name.as_str()), number == usize::from(segments.unrouted), "{name}");
            }
            assert!(config.catalog.exports.iter().all(|of| of.profiles_per_hour_max.is_none() && of.starts_at_once));
            let limit = (!fast).then_some((4, 10_000));
            let application = &config.catalog.applications[0];
            assert_eq!(application.calls_per_second.zip(application.calls_per_day), limit);
            let vendor = vendor(1, fast);
            assert_eq!(vendor.calls_per_second.zip(vendor.calls_per_day), limit, "the same on both sides");
        }
    }
}
