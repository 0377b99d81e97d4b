//! Configurations that follow one another in a world: the file changes while processes run with what it held before.

use fastrand::Rng;

use crate::model::{
    Text,
    catalog::{Catalog, Export},
};

/// A configuration, as what it has of the catalog of everything that is ever configured.
#[derive(Debug, Clone)]
pub struct Change {
    /// When the file comes to hold it, from the world's beginning.
    pub at_ms: u64,
    /// For each export, its segments (none: it is not configured) and whether its mapping is the other one.
    exports: Vec<(Vec<Text>, bool)>,
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
                return (Vec::new(), false);
            }
            let kept = rng.usize(..export.segments.len());
            let segments = export.segments.iter().enumerate().filter(|(at, _)| *at == kept || rng.u32(..3) != 0);
            (segments.map(|(_, segment)| segment.clone()).collect(), rng.u32(..4) == 0)
        });
        Self { at_ms, exports: exports.collect() }
    }

    /// The catalog with what this configuration has of it.
    #[must_use]
    pub fn of(&self, catalog: &Catalog) -> Catalog {
        let chosen = catalog.exports.iter().zip(&self.exports).filter(|(_, (segments, _))| !segments.is_empty());
        let exports = chosen.map(|(export, (segments, other))| {
            let mut mapping = export.mapping.clone();
            if *other {
                mapping.last_name = None;
                mapping.hash = !mapping.hash;
            }
            Export { segments: segments.clone(), mapping, ..export.clone() }
        });
        Catalog { exports: exports.collect(), ..catalog.clone() }
    }
}
