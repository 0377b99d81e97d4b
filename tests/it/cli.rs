//! The commands, as a script sees them.

use std::{path::Path, time::Duration};

use crate::rig::{process::Listkeeper, scratch};

const LIMIT: Duration = Duration::from_secs(60);

fn ended(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Listkeeper::start(folder, "command", arguments);
    let code = command.ended(LIMIT).code();
    (code, command.said(), command.log())
}

#[test]
fn a_bad_configuration_is_told_whole_with_paths_and_without_values() {
    let folder = scratch("cli");
    let file = folder.join("bad.yaml");
    std::fs::write(&file, "kafka: { brokers: [], grup: canary }\nsource: { topic: t }\n").expect("a file");
    let file = file.display().to_string();
    for command in ["validate", "run"] {
        let (code, said, log) = ended(&folder, &[command, "--config", &file]);
        assert_eq!(code, Some(78), "{log}");
        assert!(said.is_empty(), "{said}");
        for path in ["kafka.brokers", "kafka.grup", "kafka.group", "source", "applications"] {
            assert!(log.contains(path), "{path} is not named in\n{log}");
        }
        assert!(!log.contains("canary"), "{log}");
    }
}
