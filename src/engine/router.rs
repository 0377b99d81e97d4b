//! Which exports an event concerns.

use hashbrown::HashMap;

use crate::model::{
    Text,
    catalog::{Catalog, ExportId},
};

/// One export's interest in a segment: the segment's bit in the export's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The export.
    pub export: ExportId,
    /// The segment, as a bit.
    pub bit: u64,
}

/// Segment → exports. Looked up, never iterated.
#[derive(Debug)]
pub struct Router {
    routes: HashMap<Text, Vec<Route>, foldless::State>,
}

/// A hasher state without randomness, so that two runs are the same run.
mod foldless {
    pub(super) type State = std::hash::BuildHasherDefault<xxhash_rust::xxh3::Xxh3Default>;
}

impl Router {
    /// The routes of those exports for which `routed` says yes.
    #[must_use]
    pub fn new(catalog: &Catalog, routed: impl Fn(ExportId) -> bool) -> Self {
        let mut routes: HashMap<Text, Vec<Route>, foldless::State> = HashMap::default();
        for (index, export) in catalog.exports.iter().enumerate() {
            let id = ExportId::at(index);
            if !routed(id) {
                continue;
            }
            for (position, segment) in export.segments.iter().enumerate() {
                routes.entry(segment.clone()).or_default().push(Route { export: id, bit: 1 << position });
            }
        }
        Self { routes }
    }

    /// The exports that a segment feeds; empty for a segment in no export.
    #[must_use]
    pub fn routes(&self, segment: &str) -> &[Route] {
        self.routes.get(segment).map_or(&[], Vec::as_slice)
    }
}
