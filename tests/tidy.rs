//! The architecture and the habits, as tests over the source text.

#![expect(clippy::unwrap_used, reason = "a check that cannot read the source fails, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each layer: which layers and which crates it may name. Tests at a file's end may name more.
///
/// Why each crate may be there, where the name does not say it: `compact_str`, `smallvec`, `hashbrown` are memory layouts, not effects;
/// `xxhash_rust` hashes that stay the same across versions; `uuid` the vendor's ids; `idna` domains as the vendor compares them; `jiff`
/// texts of time, never a clock (.clippy.toml bans those); `fastrand` only with a seed; `self_cell` a schema with what borrows from it;
/// `thiserror` texts of errors; `governor` the pacer, on a clock of ours.
const LAYERS: [(&str, &[&str], &[&str]); 10] = [
    ("model", &[], &["serde", "compact_str", "hashbrown", "smallvec", "uuid", "xxhash_rust", "idna"]),
    ("engine", &["model"], &["serde", "governor", "hashbrown", "smallvec", "uuid", "fastrand", "compact_str", "xxhash_rust"]),
    (
        "codec",
        &["model"],
        &["apache_avro", "self_cell", "serde", "serde_json", "thiserror", "uuid", "smallvec", "compact_str", "jiff"],
    ),
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
        &["serde", "serde_json", "serde_saphyr", "secrecy", "url", "uuid", "jiff", "thiserror", "xxhash_rust"],
    ),
    ("telemetry", &["model", "engine"], &["tracing", "tracing_subscriber", "prometheus", "serde", "serde_json", "jiff"]),
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

fn first_word(text: &str) -> &str {
    text.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
}

/// The modules named after `crate::`, alone or grouped in braces.
fn own_modules(code: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(first_word(rest));
            continue;
        };
        let (mut depth, mut start) = (1, 0);
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    found.insert(first_word(&group[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
            if depth == 0 {
                found.insert(first_word(&group[start..at]));
                break;
            }
        }
    }
    found
}

#[test]
fn grouped_imports_are_seen() {
    let code = "use crate::{model::{Text, x}, engine,\n shell::clock}; crate::codec::f()";
    assert_eq!(own_modules(code), BTreeSet::from(["codec", "engine", "model", "shell"]));
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
            let modules = own_modules(&code);
            let place = path.display();
            for (known, _, _) in LAYERS {
                let allowed = known == layer || ours.contains(&"*") || ours.contains(&known);
                if !allowed && modules.contains(known) {
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
    let marks = [concat!("to", "do!("), concat!("unim", "plemented!("), concat!("FIX", "ME"), concat!("TO", "DO")];
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
    // The one place of the rig that waits for a real broker: bounded, and for something observable.
    let real = |path: &PathBuf| path.ends_with("tests/it/rig/wait.rs");
    for path in ["tests", "src/engine", "src/simulator"].into_iter().flat_map(files).filter(|path| !real(path)) {
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
