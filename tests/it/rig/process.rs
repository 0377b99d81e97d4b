//! Processes: the shared Java ones, which end with this test binary, and those of the binary under test.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::wait;

/// Starts the command that follows, says its id, and ends it by that id when the pipe to this script closes: so a
/// shared process ends with the test binary, however that ends, and its folder with it.
const GUARD: &str = r#"log=$1 folder=$2; shift 2
"$@" >>"$log" 2>&1 </dev/null & id=$!
echo "$id"
cat >/dev/null
kill -9 "$id" 2>/dev/null
wait "$id" 2>/dev/null
rm -rf "$folder""#;

/// A process that several tests share.
#[derive(Debug)]
pub struct Shared {
    /// Its process id.
    pub id: i32,
    _guard: Child,
    _pipe: ChildStdin,
}

impl Shared {
    /// Starts a program that writes its log into `folder`, which is removed at the end.
    pub fn start(folder: &Path, program: &str, arguments: &[String]) -> Self {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(folder.join("log"))
            .arg(folder)
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut line = String::new();
        BufReader::new(guard.stdout.take().expect("a pipe")).read_line(&mut line).expect("the guard says the id");
        let pipe = guard.stdin.take().expect("a pipe");
        Self { id: line.trim().parse().expect("a process id"), _guard: guard, _pipe: pipe }
    }

    /// Sends a signal to the process by its id.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id), signal).expect("the process is there");
    }
}

/// A running `listkeeper`; killed when dropped.
#[derive(Debug)]
pub struct Listkeeper {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Listkeeper {
    /// Starts the real binary; what it prints goes to files in `folder`.
    pub fn start(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let (stdout, stderr) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let child = Command::new(env!("CARGO_BIN_EXE_listkeeper"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a log file"))
            .stderr(File::create(&stderr).expect("a log file"))
            .spawn()
            .expect("the binary starts");
        Self { child, stdout, stderr }
    }

    /// Sends a signal to the process by its id.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("the process is there");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first line on stdout, once there is one.
    pub fn first_line(&mut self) -> String {
        wait::until("a first line on stdout", Duration::from_secs(20), || {
            let text = std::fs::read_to_string(&self.stdout).unwrap_or_default();
            if let Some((line, _)) = text.split_once('\n') {
                return Some(line.to_owned());
            }
            let ended = self.exit();
            assert!(ended.is_none(), "ended ({ended:?}) before it said anything: {}", super::tail(&self.stderr));
            None
        })
    }

    /// How it ended, if it has.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits for the end.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        wait::until("the end of listkeeper", limit, || self.exit())
    }

    /// What it said on stdout.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        super::tail(&self.stderr)
    }
}

impl Drop for Listkeeper {
    fn drop(&mut self) {
        // Already ended is as good; a panic here would hide the test's own.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
