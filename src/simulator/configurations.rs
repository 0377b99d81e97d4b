//! Configurations that follow one another in a world: the file changes while processes run with what it held before.

use fastrand::Rng;

use crate::model::{
    Text,
    catalog::{Catalog, Export, ListRef},
};

/// A configuration, as what it has of the catalog of everything that is ever configured.
#[derive(Debug, Clone)]
pub struct Change {
    /// When the file comes to hold it, from the world's beginning.
    pub at_ms: u64,
    exports: Vec<Variant>,
}

/// What a configuration has of an export.
#[derive(Debug, Clone, Default)]
struct Variant {
    /// Its segments; none: it is not configured.
    segments: Vec<Text>,
    other_mapping: bool,
    other_list: bool,
}

impl Change {
    /// What the file holds at first, and up to three changes of it.
    #[must_use]
    pub fn draw_all(rng: &mut Rng, catalog: &Catalog, last_ms: u64) -> Vec<Self> {
        let mut times: Vec<u64> = (0..rng.usize(1..=3)).map(|_| rng.u64(..=last_ms)).collect();
        times.push(0);
        times.sort_unstable();
        times.into_iter().map(|at_ms| Self::draw(rng, at_ms, catalog)).collect()
    }

    fn draw(rng: &mut Rng, at_ms: u64, catalog: &Catalog) -> Self {
        let stays = rng.usize(..catalog.exports.len());
        let exports = catalog.exports.iter().enumerate().map(|(index, export)| {
            if index != stays && rng.u32(..4) == 0 {
                return Variant::default();
            }
            let kept = rng.usize(..export.segments.len());
            let segments = export.segments.iter().enumerate().filter(|(at, _)| *at == kept || rng.u32(..3) != 0);
            let segments = segments.map(|(_, segment)| segment.clone()).collect();
            Variant { segments, other_mapping: rng.u32(..4) == 0, other_list: rng.u32(..4) == 0 }
        });
        Self { at_ms, exports: exports.collect() }
    }

    /// Whether it has the other list of an export.
    #[must_use]
    pub fn moves(&self, export: usize) -> bool {
        self.exports[export].other_list
    }

    /// The catalog with what this configuration has of it; `others` are the exports' other lists.
    #[must_use]
    pub fn of(&self, catalog: &Catalog, others: &[ListRef]) -> Catalog {
        let all = catalog.exports.iter().zip(&self.exports).zip(others);
        let chosen = all.filter(|((_, variant), _)| !variant.segments.is_empty());
        let exports = chosen.map(|((export, variant), other)| {
            let mut mapping = export.mapping.clone();
            if variant.other_mapping {
                mapping.last_name = None;
                mapping.hash = !mapping.hash;
            }
            let list = if variant.other_list { other.clone() } else { export.list.clone() };
            Export { segments: variant.segments.clone(), mapping, list, ..export.clone() }
        });
        Catalog { exports: exports.collect(), ..catalog.clone() }
    }
}
