//! Ids from counters: the same seed, the same ids, and no table from ids back to numbers.

use uuid::Uuid;

/// What an id names; ids of different kinds never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdKind {
    Contact,
    List,
    Activity,
}

impl IdKind {
    const fn tag(self) -> u64 {
        match self {
            Self::Contact => 0x0c0e_7ac7_0000_0000,
            Self::List => 0x0115_7000_0000_0000,
            Self::Activity => 0x0ac7_1717_0000_0000,
        }
    }
}

/// Turns numbers into ids that look random, and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    seed: u64,
}

const VERSION_MASK: u64 = 0xf000;
const VERSION_4: u64 = 0x4000;
const VARIANT_MASK: u64 = 0x3fff_ffff_ffff_ffff;
const VARIANT: u64 = 0x8000_0000_0000_0000;

impl Ids {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed: mix(seed) }
    }

    pub(super) fn id(self, kind: IdKind, number: u32) -> Uuid {
        let high = (mix(self.seed ^ kind.tag() ^ u64::from(number)) & !VERSION_MASK) | VERSION_4;
        let low = ((mix(high ^ self.seed) ^ u64::from(number)) & VARIANT_MASK) | VARIANT;
        Uuid::from_u64_pair(high, low)
    }

    /// The number behind an id of this kind; `None` for an id that was never made here.
    pub(super) fn number(self, kind: IdKind, id: Uuid) -> Option<u32> {
        let (high, low) = id.as_u64_pair();
        let number = u32::try_from((low ^ mix(high ^ self.seed)) & u64::from(u32::MAX)).ok()?;
        (self.id(kind, number) == id).then_some(number)
    }

    /// A text for tokens, from a counter.
    pub(super) fn token(self, prefix: &str, number: u64) -> String {
        let first = mix(self.seed ^ number.rotate_left(17) ^ 0x70ce);
        format!("{prefix}{first:016x}{:016x}", mix(first ^ self.seed))
    }
}

/// The finaliser of splitmix64: a bijection that spreads every bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_back_to_their_numbers_and_only_within_their_kind_and_seed() {
        let ids = Ids::new(7);
        for number in [0, 1, 39_999, 1_000_000, u32::MAX] {
            let id = ids.id(IdKind::Contact, number);
            assert_eq!(ids.number(IdKind::Contact, id), Some(number));
            assert_eq!(ids.number(IdKind::List, id), None);
            assert_eq!(Ids::new(8).number(IdKind::Contact, id), None);
            assert_eq!(id.get_version_num(), 4);
        }
    }
}
