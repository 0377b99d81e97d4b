//! A real schema registry: Apicurio, by its Confluent-compatible interface.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use super::{free_port, http, process::Shared, resolved, scratch, wait};

const PATH: &str = "/apis/ccompat/v7";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    /// The process.
    pub process: Shared,
}

impl Registry {
    /// The registry that the tests of this binary share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Registry> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one with nothing in it.
    pub fn start() -> Self {
        let (folder, port) = (scratch("registry"), free_port());
        let jar = resolved("LISTKEEPER_TEST_REGISTRY").join("apicurio-registry-app-2.6.13.Final-runner.jar");
        let arguments = [
            "-Xmx256m".to_owned(),
            "-XX:TieredStopAtLevel=1".to_owned(),
            "-XX:+UseSerialGC".to_owned(),
            "-Dquarkus.http.host=127.0.0.1".to_owned(),
            format!("-Dquarkus.http.port={port}"),
            "-jar".to_owned(),
            jar.display().to_string(),
        ];
        let process = Shared::start(&folder, "java", &arguments);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait::until(&format!("the registry, whose log is {}", folder.join("log").display()), Duration::from_secs(60), || {
            http::get(address, &format!("{PATH}/subjects")).filter(|(status, _)| *status == 200)
        });
        Self { address, process }
    }

    /// Where it answers, as a configuration names it.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Registers a schema; gives its id.
    pub fn register(&self, subject: &str, schema: &str) -> u32 {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let path = format!("{PATH}/subjects/{subject}/versions");
        let (status, answer) = http::call("POST", self.address, &path, "application/json", &body).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id")
    }
}
