//! What happened in a world, one line for each input, output and fault: kept for a person, hashed for the digest.

use std::fmt::Write as _;

use xxhash_rust::xxh3::Xxh3;

/// The lines of one world.
pub struct Trace {
    hasher: Xxh3,
    kept: Option<Vec<String>>,
    line: String,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("digest", &self.digest()).finish_non_exhaustive()
    }
}

impl Trace {
    /// A trace that keeps its lines, or only hashes them.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hasher: Xxh3::new(), kept: keep.then(Vec::new), line: String::new() }
    }

    /// Adds a line that begins with the virtual time.
    pub fn line(&mut self, at_ms: u64, text: std::fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a String cannot fail.
        let written = write!(self.line, "{:>10}.{:03} ", at_ms / 1_000, at_ms % 1_000).and_then(|()| self.line.write_fmt(text));
        debug_assert!(written.is_ok());
        self.hasher.update(self.line.as_bytes());
        self.hasher.update(b"\n");
        if let Some(kept) = &mut self.kept {
            kept.push(self.line.clone());
        }
    }

    /// The hash over all lines so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.hasher.digest()
    }

    /// The lines, if they were kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.kept.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lines_have_equal_digests_kept_or_not() {
        let [mut kept, mut hashed] = [true, false].map(Trace::new);
        for trace in [&mut kept, &mut hashed] {
            trace.line(61_005, format_args!("in  reader at {}", 7));
        }
        assert_eq!(kept.digest(), hashed.digest());
        assert_eq!(kept.into_lines(), ["        61.005 in  reader at 7"]);
        assert!(hashed.into_lines().is_empty());
    }
}
