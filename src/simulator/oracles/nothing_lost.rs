//! [`Promise::NothingLost`]: below a committed offset, every event is as good as done.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{Promise, RefusedReason, output::Commit};
use crate::model::{
    Text,
    batch::BatchName,
    catalog::OnExit,
    position::{PartitionId, Position},
    state::{ROW_LEFT, StateKey, StateValue},
};
use crate::simulator::fold::Wish;

use super::{Sight, Verdict};

/// Keeps what the state topic says is still to be done: rows to be sent, and addresses to be taken off.
#[derive(Debug, Default)]
pub struct NothingLost {
    parked: BTreeSet<(Text, Text)>,
    /// Addresses, by export and profile, on which a search for refused rows was spent.
    search_spent: BTreeMap<(Text, Text), Text>,
    /// Where the records lie that letters tell of, and of which export.
    told: BTreeSet<(Position, Option<Text>)>,
    /// For each export and address, the profiles for which it was applied, and for which of the segments in their
    /// records it stays.
    applied: BTreeMap<(Text, Text), BTreeMap<Text, Vec<Text>>>,
    /// The addresses in it, by export and profile.
    addresses: BTreeMap<(Text, Text), Vec<Text>>,
    /// For each record of an open batch, its export and addresses: what they are on the list for is decided when it ends.
    open: BTreeMap<(BatchName, u32), (Text, Vec<Text>)>,
    /// For each export, the segments that the header before named as routed.
    routed: BTreeMap<Text, Vec<Text>>,
}

impl NothingLost {
    pub(super) fn at_commit(&mut self, sight: &Sight<'_>, commit: &Commit, before: &BTreeMap<PartitionId, i64>) -> Verdict {
        for letter in &commit.letters {
            let export = letter.refused_by.as_ref().map(|by| by.export.clone());
            // One that an export refused may be told of again as long as its offset is not committed.
            let settled = before.get(&letter.position.partition).is_some_and(|offset| letter.position.offset < *offset);
            let once = export.is_none() || settled;
            if !self.told.insert((letter.position, export)) && once {
                return Err((Promise::NothingLost, format!("a second letter tells of {:?}", letter.position)));
            }
        }
        for change in &commit.changes {
            if let StateKey::Batch { name, chunk } = &change.key {
                let key = (name.clone(), *chunk);
                // One that was given up is only watched.
                if let Some(StateValue::Batch(batch)) = &change.value
                    && !batch.given_up
                {
                    let addresses = batch.rows.iter().map(|row| row.address.clone()).collect();
                    self.open.insert(key, (batch.export.clone(), addresses));
                } else {
                    self.open.remove(&key);
                }
            }
            if let StateKey::Member { export, profile } = &change.key {
                let key = (export.clone(), profile.clone());
                if matches!(&change.value, Some(StateValue::Member(cut)) if cut.row.is_some()) {
                    self.parked.insert(key.clone());
                } else {
                    self.parked.remove(&key);
                }
                self.note_search(key.clone(), change.value.as_ref());
                self.note_applied(key, change.value.as_ref());
            }
        }
        let Some(header) = sight.broker.header() else { return Ok(()) };
        for export in 0..sight.catalog.exports.len() {
            let name = &sight.catalog.exports[export].name;
            let Some(routed) = header.routed.iter().find(|routed| routed.export == *name) else {
                self.routed.remove(name);
                continue;
            };
            // Segments that are handed over are settled for everybody, up to where the header stands.
            let handed_over = self.routed.get(name).is_none_or(|before| !routed.segments.iter().all(|one| before.contains(one)));
            if handed_over {
                self.routed.insert(name.clone(), routed.segments.clone());
            }
            for next in &commit.offsets {
                let from = before.get(&next.partition).copied().filter(|_| !handed_over).unwrap_or(i64::MIN);
                if from < next.offset {
                    self.export(sight, export, &routed.segments, next.partition, from)?;
                }
            }
        }
        Ok(())
    }

    /// What a member's record says of a search for refused rows. Its row lies in the state, to be sent when it is another.
    fn note_search(&mut self, key: (Text, Text), value: Option<&StateValue>) {
        self.search_spent.remove(&key);
        let Some(StateValue::Member(cut)) = value else { return };
        let spent = cut.refused.as_ref().is_some_and(|refused| RefusedReason::SearchSpent.is_why(refused));
        if let Some(address) = cut.address.clone().filter(|_| spent && cut.row.is_some()) {
            self.search_spent.insert(key, address);
        }
    }

    /// Whether the state says that nobody knows whether an address is on an export's list, because a search was spent on it.
    pub(super) fn is_search_spent(&self, export: &Text, address: &Text) -> bool {
        self.search_spent.iter().any(|((of, _), spent)| of == export && spent == address)
    }

    /// What a member's record says of addresses that were applied.
    fn note_applied(&mut self, key: (Text, Text), value: Option<&StateValue>) {
        for address in self.addresses.remove(&key).unwrap_or_default() {
            if let Some(profiles) = self.applied.get_mut(&(key.0.clone(), address)) {
                profiles.remove(&key.1);
            }
        }
        let Some(StateValue::Member(cut)) = value else { return };
        for applied in cut.applied.iter().filter(|applied| applied.row_hash != ROW_LEFT) {
            let stays_for = if cut.address.as_ref() == Some(&applied.address) { cut.segments.clone() } else { Vec::new() };
            self.applied.entry((key.0.clone(), applied.address.clone())).or_default().insert(key.1.clone(), stays_for);
        }
        let addresses: Vec<Text> = cut.applied.iter().map(|applied| applied.address.clone()).collect();
        if !addresses.is_empty() {
            self.addresses.insert(key, addresses);
        }
    }

    /// Whether the state says that an address was applied for somebody for whom it does not stay: it is to be taken off.
    fn leaves(&self, export: &Text, address: &Text, segments: &[Text]) -> bool {
        let profiles = self.applied.get(&(export.clone(), address.clone()));
        let stays = |stays_for: &Vec<Text>| segments.iter().any(|segment| stays_for.contains(segment));
        profiles.is_some_and(|profiles| profiles.values().any(|stays_for| !stays(stays_for)))
    }

    /// Every profile with an event from `from` on in a partition that is committed. A profile moves when the source grows:
    /// what is committed of it begins with its oldest event all the same.
    fn export(&self, sight: &Sight<'_>, export: usize, segments: &[Text], partition: PartitionId, from: i64) -> Verdict {
        let committed = sight.broker.committed();
        let is_settled =
            |wish: &Wish| committed.get(&wish.position.partition).is_some_and(|offset| wish.position.offset < *offset);
        let name = &sight.catalog.exports[export].name;
        let wishes = sight.fold.export(export);
        let mut members: Option<Vec<Text>> = None;
        for (profile, wishes) in wishes {
            let settled = wishes.iter().position(|wish| !is_settled(wish)).unwrap_or(wishes.len());
            let newly = |wish: &&Wish| wish.position.partition == partition && wish.position.offset >= from;
            if let Some(ahead) = wishes[settled..].iter().filter(newly).find(|wish| is_settled(wish)) {
                let (behind, ahead) = (wishes[settled].position, ahead.position);
                let detail = format!("{profile} in {name}: committed past {ahead:?}, ahead of its older event at {behind:?}");
                return Err((Promise::NothingLost, detail));
            }
            let touched = wishes[..settled].iter().any(|wish| newly(&wish));
            if !touched || self.parked.contains(&(name.clone(), profile.clone())) {
                continue;
            }
            let letters = wishes[..settled].iter().filter(newly).filter(|wish| wish.letter);
            for wish in letters {
                let told = sight.broker.letters().iter().any(|letter| {
                    letter.position == wish.position && letter.refused_by.as_ref().is_some_and(|by| by.export == *name)
                });
                if !told {
                    return Err((Promise::NothingLost, format!("no letter tells of {:?} in {name}", wish.position)));
                }
            }
            // While ours go from one list to the other they are on none: what is at rest counts.
            if sight.moves(export) {
                continue;
            }
            let members = members.get_or_insert_with(|| sight.members(export));
            self.profile(sight, export, segments, profile, &wishes[settled.saturating_sub(1)..], wishes, members)?;
        }
        Ok(())
    }

    /// For each address that a profile ever had: it is on the list, or not, as one of the profile's wishes has it, from
    /// the last committed one on. Who is in a segment that is not routed now may be on the list still, or not.
    #[expect(clippy::too_many_arguments, reason = "one profile of one export, and what is looked at for all of them")]
    fn profile(
        &self,
        sight: &Sight<'_>,
        export: usize,
        segments: &[Text],
        profile: &Text,
        candidates: &[Wish],
        wishes: &[Wish],
        members: &[Text],
    ) -> Verdict {
        let config = &sight.catalog.exports[export];
        let addresses: BTreeSet<&Text> = wishes.iter().filter_map(address).collect();
        for known in addresses {
            if sight.is_suppressed(export, known) {
                continue;
            }
            let present = members.binary_search(known).is_ok();
            let wants = |wish: &Wish| address(wish) == Some(known);
            if !present && sight.departs(export, known) {
                continue;
            }
            let wants_now = |wish: &Wish| wish.wanted_for(segments) == Some(known);
            let as_wished = candidates.iter().any(|wish| if present { wants(wish) } else { !wants_now(wish) });
            let others = || {
                let others = sight.fold.export(export).iter().filter(|(other, _)| *other != profile);
                others.flat_map(|(_, wishes)| wishes).any(wants)
            };
            let was_there = || sight.was_there(export, known);
            let leaving = || self.leaves(&config.name, known, segments);
            let in_open_batch = || self.open.values().any(|(name, addresses)| *name == config.name && addresses.contains(known));
            let refused = !present && !sight.takes(export, known);
            // It entered and left, of which the state keeps nothing; what it enters after that is still to be settled.
            let enters = |pair: &[Wish]| {
                let fresh = pair[1].segments.difference(&pair[0].segments).any(|segment| segments.contains(segment));
                fresh && wants_now(&pair[1])
            };
            let is_told = || !present && candidates.windows(2).any(enters);
            let stays = || config.on_exit == OnExit::Keep || leaving() || in_open_batch() || others() || was_there();
            if as_wished || refused || is_told() || (present && stays()) {
                continue;
            }
            let detail = format!(
                "{profile} in {}: committed past {:?}, and {known} is {} the list",
                config.name,
                candidates.first().map(|wish| wish.position),
                if present { "still on" } else { "not on" }
            );
            return Err((Promise::NothingLost, detail));
        }
        Ok(())
    }
}

fn address(wish: &Wish) -> Option<&Text> {
    wish.wanted.as_ref().map(|(address, _)| address)
}
