//! A record in a file: replaced as a whole, durable before it counts, and only if it still is the version that the
//! writer began with.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::record::TokenRecord;

/// Owner alone: the file is a credential.
const MODE: u32 = 0o600;
/// How often the lock is tried for, and how long between two tries: whoever holds it writes one small file.
const LOCK_TRIES: u32 = 200;
const LOCK_WAIT: Duration = Duration::from_millis(25);

/// A token store in a file, with a lock file beside it that all replicas on this machine share.
#[derive(Debug, Clone)]
pub struct FileStore {
    path: PathBuf,
}

/// Why a store gave or took nothing. Never holds what it read.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// It cannot be read or written.
    #[error("{path} cannot be {doing} ({kind}): it must be a file that this process may replace")]
    Io {
        /// The file.
        path: String,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// What it holds is no record.
    #[error("{path} holds no token record (line {line}, column {column}): sign in again, or put the record back")]
    Unreadable {
        /// The file.
        path: String,
        /// Where reading ended.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// Somebody else has replaced the record meanwhile.
    #[error("the token record was replaced meanwhile")]
    Replaced,
    /// Somebody else keeps it locked.
    #[error("{path} stays locked by another process")]
    Locked {
        /// The lock file.
        path: String,
    },
}

impl FileStore {
    /// The store in this file.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The record; `None` when there is no file. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or holds no record.
    pub fn read(&self) -> Result<Option<TokenRecord>, StoreFault> {
        match std::fs::read(&self.path) {
            Ok(bytes) => self.parse(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&self.path, "read", &error)),
        }
    }

    /// Replaces the record if its version still is `began_with` (`None`: if there is no record yet). Blocks.
    ///
    /// # Errors
    /// [`StoreFault::Replaced`], or the file cannot be written.
    pub fn replace(&self, began_with: Option<u64>, record: &TokenRecord) -> Result<(), StoreFault> {
        let _lock = self.lock()?;
        if self.read()?.map(|found| found.version) != began_with {
            return Err(StoreFault::Replaced);
        }
        self.write(record).map_err(|error| fault(&self.path, "written", &error))
    }

    fn write(&self, record: &TokenRecord) -> io::Result<()> {
        let fresh = beside(&self.path, "new");
        // Left by a process that ended in the middle.
        if let Err(error) = std::fs::remove_file(&fresh)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&fresh)?;
        serde_json::to_writer_pretty(&mut file, record)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// Held until it is dropped; the system lets go of it when the process ends.
    fn lock(&self) -> Result<File, StoreFault> {
        let path = beside(&self.path, "lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(&path);
        let file = opened.map_err(|error| fault(&path, "opened", &error))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
                Err(TryLockError::Error(error)) => return Err(fault(&path, "locked", &error)),
            }
        }
        Err(StoreFault::Locked { path: path.display().to_string() })
    }

    /// serde's own texts quote what they read, so only the place is kept.
    fn parse(&self, bytes: &[u8]) -> Result<TokenRecord, StoreFault> {
        serde_json::from_slice(bytes).map_err(|error| StoreFault::Unreadable {
            path: self.path.display().to_string(),
            line: error.line(),
            column: error.column(),
        })
    }
}

fn fault(path: &Path, doing: &'static str, error: &io::Error) -> StoreFault {
    StoreFault::Io { path: path.display().to_string(), doing, kind: error.kind() }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
