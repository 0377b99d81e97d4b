//! What the events mean, folded without a line of the engine: the ruler that the oracles measure with.
//!
//! Why a second implementation: an oracle that asked the engine would agree with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Text, address,
    catalog::{Catalog, Export, FieldId, NoAddress},
    event::{ChangeKind, RecordContent, SegmentEvent, SourceRecord},
    position::Position,
    row::Row,
};

/// What one profile wants in one export after some event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The event after which it is so.
    pub position: Position,
    /// The segments of the export that it is in.
    pub segments: BTreeSet<Text>,
    /// The address that belongs on the list, and the row that goes with it; the row is unknown where an event kept the
    /// address without bringing one.
    pub wanted: Option<(Text, Option<Row>)>,
    /// True when the event was refused: it changed nothing, and a dead letter tells of it.
    pub letter: bool,
    /// True from an erasure on until the profile enters again.
    pub erased: bool,
}

impl Wish {
    /// The address that belongs on the list when these are the export's segments.
    #[must_use]
    pub fn wanted_for(&self, segments: &[Text]) -> Option<&Text> {
        let (address, _) = self.wanted.as_ref()?;
        segments.iter().any(|segment| self.segments.contains(segment)).then_some(address)
    }
}

/// All wishes of one export: for each profile, in the order of its events.
pub type Wishes = BTreeMap<Text, Vec<Wish>>;

/// The fold of all exports, fed record by record.
#[derive(Debug, Clone)]
pub struct Fold {
    exports: Vec<Wishes>,
}

impl Fold {
    /// A fold of nothing.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        Self { exports: vec![Wishes::new(); catalog.exports.len()] }
    }

    /// Folds the next record of its partition.
    pub fn record(&mut self, catalog: &Catalog, record: &SourceRecord) {
        for (wishes, export) in self.exports.iter_mut().zip(&catalog.exports) {
            let (profile, next) = match &record.content {
                RecordContent::Undecodable(_) => continue,
                RecordContent::Erasure { profile_id } => (profile_id, erased(wishes, profile_id)),
                RecordContent::Event(event) => (&event.profile_id, after(wishes, export, event)),
            };
            if let Some(mut wish) = next {
                wish.position = record.position;
                wishes.entry(profile.clone()).or_default().push(wish);
            }
        }
    }

    /// The wishes of an export, by its number.
    #[must_use]
    pub fn export(&self, index: usize) -> &Wishes {
        &self.exports[index]
    }
}

fn erased(wishes: &Wishes, profile: &Text) -> Option<Wish> {
    wishes.contains_key(profile).then(|| Wish { erased: true, ..Wish::default() })
}

/// The wish after an event; `None` when the event means nothing to the export.
fn after(wishes: &Wishes, export: &Export, event: &SegmentEvent) -> Option<Wish> {
    let concerns = event.segment_id.as_ref().is_none_or(|segment| export.segments.contains(segment));
    if !concerns {
        return None;
    }
    let before = wishes.get(&event.profile_id).and_then(|wishes| wishes.last());
    let mut wish = before.cloned().unwrap_or_default();
    wish.letter = false;
    match (event.change, &event.segment_id) {
        (ChangeKind::Entered, Some(segment)) => {
            wish.segments.insert(segment.clone());
            wish.erased = false;
        }
        (ChangeKind::Exited, Some(segment)) => {
            before?;
            wish.segments.remove(segment);
        }
        (ChangeKind::Updated, _) => {
            before?;
        }
        (ChangeKind::Entered | ChangeKind::Exited, None) => return None,
    }
    if wish.segments.is_empty() {
        wish.wanted = None;
        return Some(wish);
    }
    let value = |field: FieldId| event.values.get(usize::from(field.0)).cloned().flatten();
    let raw = value(export.mapping.email).filter(|text| !text.trim().is_empty());
    let found = raw.map(|raw| address::normalise(&raw));
    let refused = || Wish { letter: true, ..before.cloned().unwrap_or_default() };
    match (found, event.change) {
        (Some(Ok(address)), _) => {
            let row = Row {
                first_name: export.mapping.first_name.and_then(value),
                last_name: export.mapping.last_name.and_then(value),
                custom: export.mapping.custom.iter().map(|(_, field)| value(*field)).collect(),
            };
            wish.wanted = Some((address, Some(row)));
        }
        (Some(Err(_)) | None, ChangeKind::Exited) => {}
        (Some(Err(_)), ChangeKind::Entered | ChangeKind::Updated) => return Some(refused()),
        (None, ChangeKind::Entered | ChangeKind::Updated) => match export.no_address {
            NoAddress::Skip => wish.wanted = None,
            NoAddress::DeadLetter => return Some(refused()),
        },
    }
    Some(wish)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use crate::model::{catalog::OnExit, position::PartitionId, time::UnixMillis};
    use crate::simulator::workload::Scenario;

    use super::*;

    fn catalog(no_address: NoAddress) -> Catalog {
        let mut catalog = Scenario::draw(&mut Rng::with_seed(1)).catalog;
        catalog.exports.truncate(1);
        catalog.exports[0].segments = vec!["gold".into(), "silver".into()];
        catalog.exports[0].no_address = no_address;
        catalog.exports[0].on_exit = OnExit::Remove;
        catalog
    }

    /// Folds a script of `change segment address`, and says what is wanted after each line (`!` for a letter).
    fn script(no_address: NoAddress, lines: &[&str]) -> Vec<String> {
        let catalog = catalog(no_address);
        let mut fold = Fold::new(&catalog);
        let mut told = Vec::new();
        for (offset, line) in lines.iter().enumerate() {
            let mut words = line.split(' ');
            let change = match words.next() {
                Some("+") => ChangeKind::Entered,
                Some("-") => ChangeKind::Exited,
                _ => ChangeKind::Updated,
            };
            let segment_id = words.next().filter(|word| *word != ".").map(Text::new);
            let values = Box::new([words.next().map(Text::new), None, None, None]);
            let event = SegmentEvent { profile_id: "p".into(), segment_id, change, occurred_at: None, values };
            let position = Position { partition: PartitionId(0), offset: i64::try_from(offset).unwrap_or_default() };
            let content = if line.starts_with('x') {
                RecordContent::Erasure { profile_id: "p".into() }
            } else {
                RecordContent::Event(event)
            };
            fold.record(&catalog, &SourceRecord { position, timestamp: UnixMillis(0), hash: 0, content });
            let last = fold.export(0).get("p").and_then(|wishes| wishes.last());
            told.push(last.map_or("?".to_owned(), |wish| {
                let address = wish.wanted.as_ref().map_or("-", |(address, _)| address.as_str());
                format!("{address}{}", if wish.letter { "!" } else { "" })
            }));
        }
        told
    }

    #[test]
    fn membership_follows_segments_and_addresses_follow_events() {
        let cases: [(NoAddress, &[&str], &[&str]); 6] = [
            (NoAddress::Skip, &["+ gold a@x.de", "+ silver a@x.de", "- gold", "- silver"], &["a@x.de", "a@x.de", "a@x.de", "-"]),
            (NoAddress::Skip, &["u . a@x.de", "- gold", "+ gold a@x.de", "u . B@x.de"], &["?", "?", "a@x.de", "b@x.de"]),
            (NoAddress::Skip, &["+ gold a@x.de", "u gold", "u gold c@x.de"], &["a@x.de", "-", "c@x.de"]),
            (NoAddress::DeadLetter, &["+ gold a@x.de", "u gold", "+ gold bad"], &["a@x.de", "a@x.de!", "a@x.de!"]),
            (NoAddress::Skip, &["+ gold bad", "u gold a@x.de", "+ bronze a@x.de"], &["-!", "-", "-"]),
            (NoAddress::Skip, &["+ gold a@x.de", "x", "u . a@x.de", "+ gold a@x.de"], &["a@x.de", "-", "-", "a@x.de"]),
        ];
        for (no_address, lines, wanted) in cases {
            assert_eq!(script(no_address, lines), wanted, "{lines:?}");
        }
    }
}
