//! People who do not exist: name and address follow from the profile's number, so that nobody needs to keep them.

use std::fmt::Write as _;

use crate::model::hash::text_hash;

const FIRST_NAMES: [&str; 40] = [
    "Ana",
    "Ben",
    "Carla",
    "David",
    "Elena",
    "Felix",
    "Grace",
    "Hugo",
    "Irene",
    "Jonas",
    "Karen",
    "Luis",
    "Maria",
    "Noah",
    "Olivia",
    "Pablo",
    "Quinn",
    "Rosa",
    "Samuel",
    "Teresa",
    "Ulrich",
    "Vera",
    "Walter",
    "Ximena",
    "Yusuf",
    "Zoe",
    "Amelia",
    "Bruno",
    "Claire",
    "Daniel",
    "Emma",
    "Francisco",
    "Hannah",
    "Isaac",
    "Julia",
    "Leo",
    "Nora",
    "Oscar",
    "Sofia",
    "Thomas",
];

/// As people write them, and as they stand in an address.
const LAST_NAMES: [(&str, &str); 40] = [
    ("García", "garcia"),
    ("Müller", "mueller"),
    ("O'Brien", "obrien"),
    ("Smith", "smith"),
    ("Rossi", "rossi"),
    ("Nguyen", "nguyen"),
    ("Kowalski", "kowalski"),
    ("Silva", "silva"),
    ("Dupont", "dupont"),
    ("Johnson", "johnson"),
    ("Fernández", "fernandez"),
    ("Schmidt", "schmidt"),
    ("Brown", "brown"),
    ("Martin", "martin"),
    ("Lopez", "lopez"),
    ("Larsen", "larsen"),
    ("Novak", "novak"),
    ("Tanaka", "tanaka"),
    ("Cohen", "cohen"),
    ("Haddad", "haddad"),
    ("Murphy", "murphy"),
    ("Bianchi", "bianchi"),
    ("Öztürk", "oeztuerk"),
    ("Costa", "costa"),
    ("Wagner", "wagner"),
    ("Young", "young"),
    ("Moreau", "moreau"),
    ("Santos", "santos"),
    ("Khan", "khan"),
    ("Weber", "weber"),
    ("Taylor", "taylor"),
    ("Jensen", "jensen"),
    ("Romero", "romero"),
    ("Lee", "lee"),
    ("King", "king"),
    ("Vidal", "vidal"),
    ("Becker", "becker"),
    ("Clark", "clark"),
    ("Ortiz", "ortiz"),
    ("Walsh Jr., PhD", "walsh"),
];

/// Reserved for examples (RFC 2606): no address of a person can be among them.
const DOMAINS: [&str; 4] = ["example.com", "example.com", "example.org", "example.net"];

const TIERS: [&str; 3] = ["silver", "gold", "platinum"];

/// The people of one seed.
#[derive(Debug, Clone, Copy)]
pub struct People {
    seed: u64,
}

impl People {
    /// The people of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn chance(self, profile: u32) -> u64 {
        mix(self.seed, profile)
    }

    /// The first name.
    #[must_use]
    pub fn first_name(self, profile: u32) -> &'static str {
        pick(&FIRST_NAMES, self.chance(profile))
    }

    /// The last name, which another `version` changes.
    #[must_use]
    pub fn last_name(self, profile: u32, version: u8) -> &'static str {
        pick(&LAST_NAMES, (self.chance(profile) >> 8).wrapping_add(u64::from(version))).0
    }

    /// The loyalty tier.
    #[must_use]
    pub fn tier(self, profile: u32) -> &'static str {
        pick(&TIERS, self.chance(profile) >> 24)
    }

    /// Writes the address, in the form in which lists hold it; about 25 bytes, as addresses are.
    pub fn address(self, profile: u32, out: &mut String) {
        out.clear();
        let chance = self.chance(profile);
        let (first, last) = (pick(&FIRST_NAMES, chance), pick(&LAST_NAMES, chance >> 8).1);
        match (chance >> 32) % 10 {
            0..5 => out.push_str(first),
            5..9 => {
                out.extend(first.chars().take(1));
                out.push_str(last);
            }
            _ => {
                out.push_str(first);
                out.push('.');
                out.push_str(last);
            }
        }
        out.make_ascii_lowercase();
        // Writing to a String cannot fail.
        let _ok = write!(out, "{profile}@{}", pick(&DOMAINS, chance >> 16));
    }

    /// Whose address this is, if it is one of ours; `scratch` is room to work in.
    #[must_use]
    pub fn profile_of(self, address: &str, scratch: &mut String) -> Option<u32> {
        let (local, _) = address.split_once('@')?;
        let digits = local.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let profile = digits.parse().ok()?;
        self.address(profile, scratch);
        (scratch == address).then_some(profile)
    }
}

/// A profile's id, as the platform names it.
pub fn profile_id(profile: u32, out: &mut String) {
    out.clear();
    let _ok = write!(out, "profile-{profile:07}");
}

/// The partition of a key.
#[must_use]
pub fn partition(key: &str, partitions: usize) -> usize {
    let partitions = u64::try_from(partitions).unwrap_or(1).max(1);
    usize::try_from(text_hash(key) % partitions).unwrap_or(0)
}

/// Chance by seed and number (the finaliser of `SplitMix64`).
pub(super) const fn mix(seed: u64, number: u32) -> u64 {
    let mut bits = seed.wrapping_add((number as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn pick<T: Copy>(from: &[T], chance: u64) -> T {
    // A remainder below the length is an index.
    from[usize::try_from((chance & 0xffff_ffff) % from.len() as u64).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address;

    #[test]
    fn an_address_is_valid_leads_back_to_its_profile_and_to_no_other() {
        let (people, mut text, mut scratch) = (People::new(7), String::new(), String::new());
        let mut seen = std::collections::BTreeSet::new();
        for profile in (0..5_000).chain([999_999, 9_999_999]) {
            people.address(profile, &mut text);
            assert_eq!(address::normalise(&text).as_deref(), Ok(text.as_str()));
            assert_eq!(people.profile_of(&text, &mut scratch), Some(profile));
            assert!(seen.insert(text.clone()), "{profile} shares its address");
        }
        assert_eq!(people.profile_of("somebody.else77@example.com", &mut scratch), None);
        assert_eq!(people.profile_of("nobody@example.com", &mut scratch), None);
    }
}
