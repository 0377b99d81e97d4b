//! The architecture and the habits, as tests over the source text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each layer: which layers and which crates it may name. Tests at a file's end may name more.
const LAYERS: [(&str, &[&str], &[&str]); 10] = [
    ("model", &[], &["serde", "compact_str", "hashbrown", "smallvec", "uuid", "xxhash_rust", "idna"]),
    ("engine", &["model"], &["serde", "governor", "hashbrown", "smallvec", "uuid", "fastrand", "compact_str"]),
    ("codec", &["model"], &["apache_avro", "serde", "serde_json", "thiserror", "uuid", "smallvec", "compact_str", "jiff"]),
    (
        "constant_contact",
        &["model"],
        &[
            "http",
            "bytes",
            "serde",
            "serde_json",
            "csv",
            "url",
            "uuid",
            "jiff",
            "oauth2",
            "secrecy",
            "thiserror",
            "smallvec",
            "compact_str",
        ],
    ),
    (
        "config",
        &["model"],
        &["serde", "serde_json", "serde_saphyr", "schemars", "secrecy", "url", "uuid", "jiff", "thiserror", "xxhash_rust"],
    ),
    ("telemetry", &["model", "engine"], &["tracing", "tracing_subscriber", "prometheus", "serde", "serde_json"]),
    ("simulator", &["model", "engine", "constant_contact", "codec"], &OTHERS_OF_SIMULATOR),
    ("shell", &["model", "engine", "codec", "config", "constant_contact", "telemetry", "simulator"], &["*"]),
    ("demo", &["model", "engine", "codec", "config", "constant_contact", "telemetry", "shell", "simulator"], &["*"]),
    ("cli", &["*"], &["*"]),
];

const OTHERS_OF_SIMULATOR: [&str; 15] = [
    "http",
    "bytes",
    "serde",
    "serde_json",
    "csv",
    "url",
    "uuid",
    "jiff",
    "fastrand",
    "hashbrown",
    "smallvec",
    "thiserror",
    "compact_str",
    "xxhash_rust",
    "apache_avro",
];

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The code of a file without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    production.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The words that follow `before` in a path position.
fn after<'a>(code: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    code.split(before).skip(1).map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default())
}

/// Whether a path begins with the crate's name.
fn names_crate(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    code.match_indices(&path).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.replace('-', "_"))
        .collect()
}

#[test]
fn each_layer_knows_only_what_it_may() {
    let crates = dependencies();
    let mut faults = Vec::new();
    for (layer, ours, others) in LAYERS {
        for path in files(&format!("src/{layer}")).into_iter().filter(|path| !path.ends_with("tests.rs")) {
            let code = code(&path);
            let place = path.display();
            for (known, _, _) in LAYERS {
                let allowed = known == layer || ours.contains(&"*") || ours.contains(&known);
                if !allowed && after(&code, "crate::").any(|word| word == known) {
                    faults.push(format!("{place}: {layer} may not know crate::{known}"));
                }
            }
            for name in &crates {
                if !others.contains(&"*") && !others.contains(&name.as_str()) && names_crate(&code, name) {
                    faults.push(format!("{place}: {layer} may not use the crate {name}"));
                }
            }
        }
    }
    none(faults);
}

#[test]
fn no_file_needs_its_own_index() {
    let long = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count() > 700;
    none(
        ["src", "tests"]
            .into_iter()
            .flat_map(files)
            .filter(long)
            .map(|path| format!("{}: over 700 lines", path.display()))
            .collect(),
    );
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = [
        concat!("to", "do!("),
        concat!("unim", "plemented!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("being", " built"),
    ];
    let mut faults = Vec::new();
    for path in ["src", "tests"].into_iter().flat_map(files) {
        let text = fs::read_to_string(&path).unwrap();
        faults.extend(marks.iter().filter(|mark| text.contains(**mark)).map(|mark| format!("{}: {mark}", path.display())));
    }
    none(faults);
}

#[test]
fn tests_and_virtual_time_never_sleep() {
    let naps = [concat!("thread::", "sleep"), concat!("time::", "sleep"), concat!("#[ig", "nore")];
    let mut faults = Vec::new();
    for path in ["tests", "src/engine", "src/simulator"].into_iter().flat_map(files) {
        let text = fs::read_to_string(&path).unwrap();
        faults.extend(naps.iter().filter(|nap| text.contains(**nap)).map(|nap| format!("{}: {nap}", path.display())));
    }
    none(faults);
}

#[test]
fn each_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (mut section, mut before, mut faults) = ("", "", Vec::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && line.contains(" = ")
            && !line.starts_with('#')
            && !before.starts_with("# ")
        {
            faults.push(format!("Cargo.toml: no reason above {line}"));
        }
        before = line;
    }
    none(faults);
}

#[test]
fn each_promise_is_checked_by_the_simulator() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/promise.rs")).unwrap();
    let body = text.split("pub enum Promise {").nth(1).unwrap().split('}').next().unwrap();
    let variants: Vec<&str> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        .filter_map(|line| line.strip_suffix(','))
        .collect();
    assert!(variants.len() >= 8, "{variants:?}");
    let oracles: String = files("src/simulator").iter().map(|path| code(path)).collect();
    none(
        variants
            .into_iter()
            .filter(|name| !oracles.contains(&format!("Promise::{name}")))
            .map(|name| format!("no oracle checks Promise::{name}"))
            .collect(),
    );
}
