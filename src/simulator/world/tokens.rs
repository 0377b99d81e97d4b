//! The token stores: tokens that are rotated, answers that are lost or come too late, and the person who signs in again.

use fastrand::Rng;

use crate::engine::{Input, input::TokenOutcome, output::ReadToken};
use crate::model::time::UnixMillis;

use super::{Happening, World};
use crate::simulator::faults::Fault;

/// What a store holds, with the times that its refresher's wall clock gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredToken {
    /// Which grant it is: the vendor refreshes the newest alone, where it rotates them.
    version: u64,
    refresh_at: UnixMillis,
    expires_at: UnixMillis,
}

impl StoredToken {
    const fn valid(self) -> TokenOutcome {
        TokenOutcome::Valid { refresh_at: Some(self.refresh_at), expires_at: Some(self.expires_at) }
    }
}

/// The stores of all connections, and what the vendor knows of their grants.
#[derive(Debug)]
pub(super) struct Tokens {
    stored: Vec<Option<StoredToken>>,
    /// For each connection, the grant whose refresh token works.
    newest: Vec<u64>,
    rotating: bool,
    life_ms: i64,
    /// Connections that a person was asked to sign in with.
    asked: Vec<bool>,
}

impl Tokens {
    pub(super) fn draw(rng: &mut Rng, connections: usize) -> Self {
        let signed_in = (0..connections).map(|_| {
            // Signed in before the world began, so that it is to be refreshed; or not yet.
            let token = StoredToken { version: 1, refresh_at: UnixMillis(0), expires_at: UnixMillis(0) };
            (rng.u32(..8) != 0).then_some(token)
        });
        Self {
            stored: signed_in.collect(),
            newest: vec![1; connections],
            rotating: rng.bool(),
            life_ms: [86_400_000, 28_800_000, 3_600_000][rng.usize(..3)],
            asked: vec![false; connections],
        }
    }
}

impl World {
    /// The token store is read, and the token endpoint asked where it may be and has to be.
    pub(super) fn token(&mut self, process: usize, read: ReadToken) {
        let Some(term) = &self.processes[process].term else { return };
        let (epoch, id) = (term.epoch, term.id);
        let index = usize::from(read.connection.0);
        let now = self.clock(process);
        let leased = now.mono <= read.not_after;
        if self.faults.strikes(&mut self.rng, Fault::TokenUnavailable) {
            let requested = read.may_refresh && leased && self.rng.bool();
            if requested {
                self.token_request(read, epoch);
            }
            self.tell_token(process, read, TokenOutcome::Unavailable { requested });
            return;
        }
        if !self.catalog.connection(read.connection).refreshes {
            self.tell_token(process, read, TokenOutcome::Valid { refresh_at: None, expires_at: None });
            return;
        }
        let Some(stored) = self.tokens.stored[index] else {
            self.asks_person(index);
            self.tell_token(process, read, TokenOutcome::Missing);
            return;
        };
        let was = self.processes[process].term.as_ref().and_then(|term| term.tokens.get(&read.connection.0)).copied();
        let rejected = read.rejected && was == Some(stored.version);
        let works = !rejected && stored.expires_at > now.wall;
        if works && (!read.may_refresh || stored.refresh_at > now.wall) {
            self.tell_token(process, read, stored.valid());
        } else if !read.may_refresh || !leased {
            self.tell_token(process, read, TokenOutcome::Unavailable { requested: false });
        } else {
            self.token_request(read, epoch);
            let fresh = if self.tokens.rotating && self.tokens.newest[index] != stored.version {
                None
            } else {
                self.tokens.newest[index] += 1;
                Some(StoredToken {
                    version: self.tokens.newest[index],
                    refresh_at: now.wall.plus_ms(self.tokens.life_ms / 5 * 4),
                    expires_at: now.wall.plus_ms(self.tokens.life_ms),
                })
            };
            if self.faults.strikes(&mut self.rng, Fault::TokenAnswerLost) {
                self.trace.line(self.now_ms, format_args!("the token endpoint's answer is lost"));
                self.tell_token(process, read, TokenOutcome::Unavailable { requested: true });
                return;
            }
            let ms = if self.rng.u32(..8) == 0 { self.rng.u64(..20_000) } else { self.rng.u64(5..300) };
            self.after(ms, Happening::TokenAnswers { term: id, read, fresh });
        }
    }

    /// The token endpoint has answered; without a fresh token, with `invalid_grant`.
    pub(super) fn token_answers(&mut self, process: usize, read: ReadToken, fresh: Option<StoredToken>) {
        let index = usize::from(read.connection.0);
        let wall = self.clock(process).wall;
        let stored = self.tokens.stored[index];
        let token = match (fresh, stored) {
            // Compare and swap: unless somebody has stored a newer one.
            (Some(fresh), stored) if stored.is_none_or(|stored| stored.version < fresh.version) => {
                self.tokens.stored[index] = Some(fresh);
                fresh.valid()
            }
            (_, Some(stored)) if stored.expires_at > wall && stored.version == self.tokens.newest[index] => stored.valid(),
            (Some(_) | None, _) => {
                self.asks_person(index);
                TokenOutcome::Dead
            }
        };
        self.tell_token(process, read, token);
    }

    fn tell_token(&mut self, process: usize, read: ReadToken, token: TokenOutcome) {
        let version = self.tokens.stored[usize::from(read.connection.0)].map(|stored| stored.version);
        if let (Some(term), Some(version)) = (&mut self.processes[process].term, version) {
            term.tokens.insert(read.connection.0, version);
        }
        self.trace.line(self.now_ms, format_args!("in  token of {}: {token:?}", read.connection.0));
        self.mutate(process, Some(Input::TokenRead { refresh: read.refresh, connection: read.connection, token }));
    }

    /// A request to the token endpoint counts like any other.
    fn token_request(&mut self, read: ReadToken, epoch: u32) {
        let now = self.vendor_time();
        let verdict = self.oracles.quota.sender(&self.catalog, read.connection, epoch);
        self.judge(verdict);
        let verdict = self.oracles.quota.request(&self.catalog, read.connection, now).map(|_| ());
        self.judge(verdict);
    }

    fn asks_person(&mut self, connection: usize) {
        if !self.tokens.asked[connection] {
            self.tokens.asked[connection] = true;
            let ms = self.rng.u64(10_000..1_800_000);
            self.after(ms, Happening::SignsIn(connection));
        }
    }

    /// A person signs in: there is a new grant, and whatever was stored is replaced.
    pub(super) fn signs_in(&mut self, connection: usize) {
        self.tokens.asked[connection] = false;
        self.tokens.newest[connection] += 1;
        let now = self.vendor_time();
        self.trace.line(self.now_ms, format_args!("a person signs in with {connection}"));
        self.tokens.stored[connection] = Some(StoredToken {
            version: self.tokens.newest[connection],
            refresh_at: now.plus_ms(self.tokens.life_ms / 5 * 4),
            expires_at: now.plus_ms(self.tokens.life_ms),
        });
    }
}
