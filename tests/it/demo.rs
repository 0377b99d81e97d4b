//! The demo as somebody runs it who has just built it, made small.

use std::{collections::BTreeMap, process::Command};

use listkeeper::config::{self, Secrets};

#[test]
fn a_small_demo_converges_and_names_a_configuration_that_can_be_read() {
    let program = env!("CARGO_BIN_EXE_listkeeper");
    let output = Command::new(program).args(["demo", "--profiles", "2000", "--seed", "3", "--fast", "--json"]).output();
    let output = output.expect("the binary starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
    assert_eq!(figures["lists_converged"], true, "{figures}");
    assert_eq!(figures["offsets_committed"], figures["offsets_produced"]);
    assert_eq!((&figures["profiles"], &figures["seed"], &figures["fast"]), (&2_000.into(), &3.into(), &true.into()));
    assert_eq!(figures["applied"]["removals"], 20, "1 % of the profiles leave their list");
    assert_eq!(figures["dead_letters"], 4, "each undecodable record, and nothing else");
    assert!(figures["cancelled_before_sending"].as_u64().is_some_and(|contacts| contacts > 0), "{figures}");

    let path = log.lines().find_map(|line| line.strip_prefix("configuration: ")).expect("it names the configuration");
    config::load_with(path.as_ref(), &BTreeMap::new(), Secrets::Read).expect("a configuration without errors");
    let folder = std::path::Path::new(path).parent().expect("a folder of its own");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn too_few_profiles_are_refused_with_the_bound() {
    let output = Command::new(env!("CARGO_BIN_EXE_listkeeper")).args(["demo", "--profiles", "5"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--profiles must be from 200"));
}
