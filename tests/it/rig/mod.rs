//! The rig: a real broker, a real schema registry, and processes of the real binary.

pub mod applications;
pub mod broker;
pub mod http;
pub mod process;
pub mod registry;
pub mod stage;
pub mod wait;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
};

/// A port that nothing listens on. Another process may take it before its user does: whoever uses it finds out by its
/// own bounded wait.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A new folder for one process of one test, below the system's temporary folder.
pub fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("listkeeper-{name}-{}-{}", std::process::id(), free_port()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// A folder that `tests/run kafka` has filled.
fn resolved(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    folder
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| panic!("{variable} names no folder: run these tests by `tests/run kafka`"))
}

/// The end of a log file, for the message of a failed wait.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
