//! Who should be on each list, folded from what was produced, without a line of the engine: one byte for a profile and
//! a list. Addresses are not kept; they follow from the profile's number.

use crate::{
    model::{ListId, event::ChangeKind},
    simulator::constant_contact::Vendor,
};

use super::{
    person::People,
    workload::{Content, Fields, Record, SegmentNumber},
};

/// The bit that says that the profile's address is known; those below are the list's segments.
const ADDRESS: u8 = 0x80;
/// Segments that one list may have here.
pub const SEGMENTS_PER_LIST_MAX: usize = 7;

/// The fold.
#[derive(Debug)]
pub struct Fold {
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    segments: Vec<SegmentNumber>,
    profiles: Vec<u8>,
}

/// What a list is like, against what it should be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Who should be on it.
    pub expected: u64,
    /// Who is on it.
    pub members: u64,
    /// Who should be on it and is not.
    pub missing: u64,
    /// Who is on it and should not be.
    pub surplus: u64,
}

impl Comparison {
    /// True when exactly those are on it who should be.
    #[must_use]
    pub const fn equal(&self) -> bool {
        self.missing == 0 && self.surplus == 0
    }
}

impl Fold {
    /// A fold of nothing, for lists of these segments.
    #[must_use]
    pub fn new(profiles: u32, lists: &[Vec<SegmentNumber>]) -> Self {
        let list = |segments: &Vec<SegmentNumber>| {
            assert!(segments.len() <= SEGMENTS_PER_LIST_MAX, "a list of this fold has at most {SEGMENTS_PER_LIST_MAX} segments");
            List { segments: segments.clone(), profiles: vec![0; profiles as usize] }
        };
        Self { lists: lists.iter().map(list).collect() }
    }

    /// Folds the next record of its partition. What cannot be decoded means nothing.
    pub fn record(&mut self, record: &Record) {
        let Content::Change(change) = record.content else { return };
        for list in &mut self.lists {
            let Some(profile) = list.profiles.get_mut(record.profile as usize) else { continue };
            let bit = match change.segment {
                // An update without a segment concerns every list.
                None => 0,
                Some(segment) => match list.segments.iter().position(|of| *of == segment) {
                    Some(index) => 1 << index,
                    None => continue,
                },
            };
            match change.kind {
                ChangeKind::Entered => *profile |= bit,
                ChangeKind::Exited => *profile &= !bit,
                ChangeKind::Updated => {}
            }
            let stays = *profile & !ADDRESS != 0;
            match change.fields {
                _ if !stays => *profile = 0,
                Fields::Complete(_) => *profile |= ADDRESS,
                // Whoever has left one segment of two keeps the address that the other event brought.
                Fields::WithoutAddress | Fields::Absent if change.kind == ChangeKind::Exited => {}
                Fields::WithoutAddress | Fields::Absent => *profile &= !ADDRESS,
            }
        }
    }

    fn belongs(&self, list: usize, profile: u32) -> bool {
        self.lists[list].profiles.get(profile as usize).is_some_and(|of| belongs(*of))
    }

    /// How many profiles should be on a list.
    #[must_use]
    pub fn expected(&self, list: usize) -> u64 {
        self.lists[list].profiles.iter().filter(|of| belongs(**of)).count() as u64
    }

    /// Compares a list with the vendor's; a list that does not exist has no members.
    #[must_use]
    pub fn compare(&self, list: usize, people: People, vendor: &Vendor, id: Option<ListId>) -> Comparison {
        let mut seen = vec![0_u64; self.lists[list].profiles.len().div_ceil(64)];
        let (mut comparison, mut scratch) =
            (Comparison { expected: self.expected(list), ..Comparison::default() }, String::new());
        let mut found = 0;
        for address in id.into_iter().flat_map(|id| vendor.members(id)) {
            comparison.members += 1;
            match people.profile_of(address, &mut scratch).filter(|profile| self.belongs(list, *profile)) {
                None => comparison.surplus += 1,
                Some(profile) => {
                    let (word, bit) = (profile as usize / 64, 1 << (profile % 64));
                    // The same address twice would be a surplus too.
                    if seen[word] & bit == 0 {
                        found += 1
                    } else {
                        comparison.surplus += 1
                    }
                    seen[word] |= bit;
                }
            }
        }
        comparison.missing = comparison.expected - found;
        comparison
    }
}

const fn belongs(profile: u8) -> bool {
    profile & ADDRESS != 0 && profile & !ADDRESS != 0
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        codec::{Decoded, EventDecoder, EventFormat, FieldPaths},
        demo::{
            render::{Encoding, Renderer},
            workload::{Step, Workload, tests::plan},
        },
        model::{Text, call::ContactStatus, event::RecordContent, time::UnixMillis},
        simulator::constant_contact::{PlantedContact, VendorConfig},
    };

    const LISTS: [&[u8]; 2] = [&[0, 1], &[3]];

    #[derive(Default)]
    struct Naive {
        segments: BTreeSet<Text>,
        address: Option<Text>,
    }

    /// The same from the bytes that were produced, with sets of texts instead of bits.
    fn naive(seed: u64) -> (Fold, Vec<BTreeSet<Text>>) {
        let plan = plan(1_000, seed);
        let names = plan.segments.names.clone();
        let lists = LISTS.map(<[u8]>::to_vec);
        let mut fold = Fold::new(plan.profiles, &lists);
        let paths = FieldPaths { mapped: vec!["profile.email".into()], ..FieldPaths::default() };
        let mut decoder = EventDecoder::new(paths, EventFormat::Json).expect("a decoder");
        let mut renderer = Renderer::new(seed, names.clone(), Encoding::Json, UnixMillis(0));
        let mut naive: Vec<BTreeMap<Text, Naive>> = vec![BTreeMap::new(), BTreeMap::new()];
        for step in Workload::new(plan) {
            let Step::Record(record) = step else { continue };
            fold.record(&record);
            renderer.render(&record);
            let decoded = decoder.decode(Some(renderer.key.as_bytes()), Some(&renderer.value));
            let Ok(Decoded::Content(RecordContent::Event(event))) = decoded else { continue };
            for (list, profiles) in lists.iter().zip(&mut naive) {
                let names: BTreeSet<&str> = list.iter().map(|number| names[usize::from(*number)].as_str()).collect();
                let of_list = event.segment_id.as_deref().is_none_or(|segment| names.contains(segment));
                if !of_list || (event.change != ChangeKind::Entered && !profiles.contains_key(&event.profile_id)) {
                    continue;
                }
                let profile = profiles.entry(event.profile_id.clone()).or_default();
                let segment = event.segment_id.clone();
                match event.change {
                    ChangeKind::Entered => profile.segments.extend(segment),
                    ChangeKind::Exited => drop(segment.map(|segment| profile.segments.remove(&segment))),
                    ChangeKind::Updated => {}
                }
                let address = event.values[0].as_ref().map(|address| Text::from(address.to_ascii_lowercase()));
                if address.is_some() || event.change != ChangeKind::Exited {
                    profile.address = address;
                }
            }
        }
        let members = |profiles: BTreeMap<Text, Naive>| {
            profiles.into_values().filter(|profile| !profile.segments.is_empty()).filter_map(|profile| profile.address).collect()
        };
        (fold, naive.into_iter().map(members).collect())
    }

    fn vendor(members: &BTreeSet<Text>) -> (Vendor, ListId) {
        let mut vendor = Vendor::new(VendorConfig::default(), UnixMillis(0));
        let list = vendor.plant_list("List");
        for address in members {
            let contact = PlantedContact { address: address.clone(), status: ContactStatus::Active, lists: vec![list] };
            assert!(vendor.plant_contact(&contact));
        }
        (vendor, list)
    }

    #[test]
    fn the_fold_agrees_with_a_naive_model() {
        for seed in 1..=3 {
            let (fold, lists) = naive(seed);
            for (number, members) in lists.iter().enumerate() {
                assert!(members.len() > 20, "seed {seed}: a list that shows something");
                let (vendor, list) = vendor(members);
                let comparison = fold.compare(number, People::new(seed), &vendor, Some(list));
                assert!(comparison.equal(), "seed {seed}, list {number}: {comparison:?}");
                assert_eq!((comparison.expected, comparison.members), (members.len() as u64, members.len() as u64));
            }
        }
    }

    #[test]
    fn one_member_too_few_and_one_too_many_are_noticed() {
        let (fold, lists) = naive(1);
        let mut members = lists[0].clone();
        members.pop_first();
        members.insert("somebody@example.com".into());
        // Somebody of the other list, whose address is one of ours.
        members.insert(lists[1].first().expect("a member").clone());
        let (vendor, list) = vendor(&members);
        let comparison = fold.compare(0, People::new(1), &vendor, Some(list));
        assert_eq!((comparison.missing, comparison.surplus), (1, 2));
        assert_eq!(fold.compare(0, People::new(1), &vendor, None).missing, lists[0].len() as u64);
    }
}
