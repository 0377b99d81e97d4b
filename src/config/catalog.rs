//! The catalog that the engine works from: names resolved to numbers, fields shared between exports, mappings hashed.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use xxhash_rust::xxh3::Xxh3;

use crate::model::Text;
use crate::model::catalog::{
    Application, ApplicationId, Catalog, ClientIdHash, Connection, ConnectionId, Export, FieldId, Mapping, RemovalBrake, Timing,
};
use crate::model::hash::text_hash;

use super::exports::{FoundApplication, FoundConnection, FoundExport, FoundFields};
use super::{ExistingMembers, TokenStore};

/// So many removals of an hour are never held, however few members a list has.
const REMOVALS_BRAKED_MIN: u64 = 1_000;

/// Numbers everything in the order of the names, which is the order of the tree.
///
/// Names that lead nowhere were reported by the walk; they count as the first here, and such a catalog is thrown away.
pub(super) fn build(
    applications: &[FoundApplication],
    connections: &[FoundConnection],
    exports: &[FoundExport],
    timing: Timing,
    profiles_max: u64,
) -> Catalog {
    let fields = fields(exports);
    Catalog {
        applications: applications
            .iter()
            .map(|found| Application {
                name: found.config.name.clone(),
                client_id_hash: ClientIdHash(text_hash(found.config.client_id.expose_secret())),
                calls_per_second: found.calls_per_second,
                calls_per_day: found.calls_per_day,
                reserved_for_others_percent: found.reserved_for_others_percent,
            })
            .collect(),
        connections: connections
            .iter()
            .map(|found| Connection {
                name: found.config.name.clone(),
                application: ApplicationId(number(applications.iter().position(|known| known.config.name == found.application))),
                consent: found.config.consent.clone(),
                refreshes: match found.config.token_store {
                    TokenStore::File(_) | TokenStore::KubernetesSecret(_) => true,
                    TokenStore::AccessTokenFile(_) => false,
                },
                on_erasure: found.on_erasure,
                contacts_max: found.contacts_max,
            })
            .collect(),
        exports: exports
            .iter()
            .map(|found| Export {
                name: found.config.name.clone(),
                connection: ConnectionId(number(connections.iter().position(|known| known.config.name == found.connection))),
                list: found.list.clone(),
                segments: found.segments.clone(),
                mapping: mapping(&found.fields, &fields),
                no_address: found.no_address,
                on_exit: found.on_exit,
                backfill: found.backfill,
                adopts_existing: found.config.existing_members == ExistingMembers::Adopt,
                removal_strategies: found.removal_strategies.clone(),
                removal_brake: (found.removals_hold_above_percent < 100)
                    .then_some(RemovalBrake { percent: found.removals_hold_above_percent, contacts_min: REMOVALS_BRAKED_MIN }),
                profiles_per_hour_max: found.profiles_per_hour_max,
                weight: found.weight,
                starts_at_once: found.starts_at_once,
            })
            .collect(),
        fields: fields.into_keys().collect(),
        timing,
        profiles_max,
    }
}

fn number(position: Option<usize>) -> u16 {
    u16::try_from(position.unwrap_or_default()).unwrap_or_default()
}

/// Every mapped path once, in their order, with its number.
fn fields(exports: &[FoundExport]) -> BTreeMap<Text, FieldId> {
    let mut fields: BTreeMap<Text, FieldId> = BTreeMap::new();
    for FoundFields { email, first_name, last_name, custom } in exports.iter().map(|export| &export.fields) {
        let paths = [Some(email), first_name.as_ref(), last_name.as_ref()]
            .into_iter()
            .flatten()
            .chain(custom.iter().map(|(_, path)| path));
        fields.extend(paths.map(|path| (path.clone(), FieldId(0))));
    }
    for (at, field) in fields.values_mut().enumerate() {
        *field = FieldId(number(Some(at)));
    }
    fields
}

fn mapping(found: &FoundFields, fields: &BTreeMap<Text, FieldId>) -> Mapping {
    let field = |path: &Text| fields.get(path).copied().unwrap_or(FieldId(0));
    let custom: Vec<(Text, FieldId)> = found.custom.iter().map(|(name, path)| (name.clone(), field(path))).collect();
    Mapping {
        email: field(&found.email),
        first_name: found.first_name.as_ref().map(field),
        last_name: found.last_name.as_ref().map(field),
        custom_names: custom.iter().map(|(name, _)| name.clone()).collect::<Arc<[Text]>>(),
        custom,
        hash: mapping_hash(found),
    }
}

/// Over paths and names, not numbers: another export's fields must not change it.
fn mapping_hash(found: &FoundFields) -> u64 {
    let mut hasher = Xxh3::new();
    let mut add = |text: Option<&Text>| match text {
        Some(text) => {
            hasher.update(&[1]);
            hasher.update(&text.len().to_le_bytes());
            hasher.update(text.as_bytes());
        }
        None => hasher.update(&[0]),
    };
    add(Some(&found.email));
    add(found.first_name.as_ref());
    add(found.last_name.as_ref());
    for (name, path) in &found.custom {
        add(Some(name));
        add(Some(path));
    }
    hasher.digest()
}
