//! Applications, connections and exports: each by itself, and what they say about one another.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::model::Text;
use crate::model::catalog::{
    Backfill, Consent, ListRef, NoAddress, OnErasure, OnExit, RemovalStrategy, SEGMENTS_PER_EXPORT_MAX, STAGING_PREFIX,
};
use crate::model::time::UnixMillis;

use super::sections::narrow;
use super::walk::{Table, is_dotted};
use super::{ApplicationConfig, ConnectionConfig, ExistingMembers, ExportConfig, TokenStore};

/// Profiles that an export moves in any 60 minutes unless its configuration says otherwise.
pub const PROFILES_PER_HOUR_MAX: u64 = 1_000_000;
/// The team that may use every connection and needs no entry under `teams`.
const ADMINISTRATORS: &str = "administrators";

/// An application with its limits.
#[derive(Debug)]
pub(super) struct FoundApplication {
    pub(super) config: ApplicationConfig,
    pub(super) calls_per_second: Option<u32>,
    pub(super) calls_per_day: Option<u32>,
    pub(super) reserved_for_others_percent: u8,
}

/// A connection with the name of its application.
#[derive(Debug)]
pub(super) struct FoundConnection {
    pub(super) config: ConnectionConfig,
    pub(super) application: Text,
    pub(super) on_erasure: OnErasure,
    pub(super) contacts_max: Option<u64>,
}

/// An export, its names not yet resolved.
#[derive(Debug)]
pub(super) struct FoundExport {
    pub(super) config: ExportConfig,
    pub(super) connection: Text,
    pub(super) list: ListRef,
    pub(super) segments: Vec<Text>,
    pub(super) fields: FoundFields,
    pub(super) no_address: NoAddress,
    pub(super) on_exit: OnExit,
    pub(super) backfill: Backfill,
    pub(super) removal_strategies: Vec<RemovalStrategy>,
    pub(super) removals_hold_above_percent: u8,
    pub(super) profiles_per_hour_max: Option<u64>,
    pub(super) weight: u32,
    pub(super) starts_at_once: bool,
}

/// Dotted paths of the mapped values.
#[derive(Debug)]
pub(super) struct FoundFields {
    pub(super) email: Text,
    pub(super) first_name: Option<Text>,
    pub(super) last_name: Option<Text>,
    pub(super) custom: Vec<(Text, Text)>,
}

/// Reads `applications`.
pub(super) fn applications(root: &Table<'_>) -> Vec<FoundApplication> {
    let found = root.need_named("applications", "application (an API key)", application);
    let mut owners: BTreeMap<&str, &Text> = BTreeMap::new();
    for application in &found {
        let id = application.config.client_id.expose_secret();
        if !id.is_empty()
            && let Some(first) = owners.insert(id, &application.config.name)
        {
            let path = format!("applications.{}.client_id", application.config.name);
            root.walk().fault(
                &path,
                None,
                format!("is also the client id of applications.{first}: an API key is one application, use that one"),
            );
        }
    }
    found
}

fn application(name: &str, table: &Table<'_>) -> FoundApplication {
    let from_file = table.secret("client_id_file");
    let client_id = table.text("client_id").map(Into::into).or(from_file).unwrap_or_default();
    let remedy = "the API key of the application in the vendor's portal";
    table.one_of(["client_id", "client_id_file"].map(|key| (key, table.has(key))), remedy);
    let client_secret = table.need_secret("client_secret_file", "name the file with the application's secret");
    let modes = [("rotating", true), ("long_lived", false)];
    let rotating = table.need_choice("refresh_tokens", modes, "rotating or long_lived, as chosen in the vendor's portal");
    table.table("limits", |limits| FoundApplication {
        config: ApplicationConfig { name: name.into(), client_id, client_secret, rotating },
        calls_per_second: limits.limit("calls_per_second", 1..=1000, Some(4)).map(narrow),
        calls_per_day: limits.limit("calls_per_day", 1..=u64::from(u32::MAX), Some(10_000)).map(narrow),
        reserved_for_others_percent: narrow(limits.number("reserved_for_others_percent", 0..=99, 0)),
    })
}

/// Reads `connections`.
pub(super) fn connections(
    root: &Table<'_>,
    teams: &[(Text, Vec<Text>)],
    applications: &[FoundApplication],
) -> Vec<FoundConnection> {
    let found =
        root.need_named("connections", "connection (an account)", |name, table| connection(name, table, teams, applications));
    let mut stores: BTreeMap<&TokenStore, &Text> = BTreeMap::new();
    for FoundConnection { config, .. } in &found {
        let Some(first) = config.token_store_if_named().and_then(|store| stores.insert(store, &config.name)) else { continue };
        let path = format!("connections.{}.token_store", config.name);
        root.walk().fault(&path, None, format!("is also the token store of connections.{first}: give each connection its own"));
    }
    found
}

impl ConnectionConfig {
    fn token_store_if_named(&self) -> Option<&TokenStore> {
        let named = match &self.token_store {
            TokenStore::File(path) | TokenStore::AccessTokenFile(path) => !path.as_os_str().is_empty(),
            TokenStore::KubernetesSecret(name) => !name.is_empty(),
        };
        named.then_some(&self.token_store)
    }
}

fn connection(name: &str, table: &Table<'_>, teams: &[(Text, Vec<Text>)], applications: &[FoundApplication]) -> FoundConnection {
    let display_name = table.need_text("display_name", "name the account as people know it");
    let application = table.need_text("application", "name one of the applications");
    if !application.is_empty() && !applications.iter().any(|known| known.config.name == application) {
        table.fault("application", "names no application: use a name under applications");
    }
    let used_by = table.texts("used_by").unwrap_or_default();
    if !used_by.iter().all(|team| is_team(team, teams)) {
        table.fault("used_by", "names a team that is not there: use names under teams");
    }
    let exporting_user = table.text("exporting_user").map(Text::from);
    let consent = table.table_if("privacy_consent", consent);
    let token_store = table.table("token_store", token_store);
    let contacts_max = table.table("contract", |contract| contract.limit("contacts_max", 1..=1_000_000_000, None));
    let erasures = [("remove_from_lists", OnErasure::RemoveFromLists), ("delete_contact", OnErasure::DeleteContact)];
    let on_erasure = table.choice("on_erasure", erasures);
    let config = ConnectionConfig {
        name: name.into(),
        display_name: display_name.into(),
        used_by: used_by.into_iter().map(Text::from).collect(),
        exporting_user,
        token_store,
        consent,
    };
    FoundConnection { config, application: application.into(), on_erasure, contacts_max }
}

fn is_team(name: &str, teams: &[(Text, Vec<Text>)]) -> bool {
    name == ADMINISTRATORS || teams.iter().any(|(team, _)| team == name)
}

fn consent(table: &Table<'_>) -> Consent {
    let accepted_by = table.need_text("accepted_by", "name the person who accepted");
    let at = table.need_text("accepted_at", "say when, as in \"2026-11-20T09:00:00Z\"");
    let accepted_at = at.parse::<jiff::Timestamp>();
    if accepted_at.is_err() && !at.is_empty() {
        table.fault("accepted_at", "is no time with a zone: write it as in \"2026-11-20T09:00:00Z\"");
    }
    let text = table.need_text("text", "name the version of the text that was accepted, as in v1");
    Consent {
        accepted_by: accepted_by.into(),
        accepted_at: UnixMillis(accepted_at.map(|at| at.as_millisecond()).unwrap_or_default()),
        text: text.into(),
    }
}

fn token_store(table: &Table<'_>) -> TokenStore {
    let file = table.path("file").map(TokenStore::File);
    let access = table.path("access_token_file").map(TokenStore::AccessTokenFile);
    let secret = table.text("kubernetes_secret").map(TokenStore::KubernetesSecret);
    if secret.is_some() {
        table.walk().not_yet(table.path_of("kubernetes_secret"), "a Secret of Kubernetes is not there yet: use file on a volume");
    }
    let keys = ["file", "kubernetes_secret", "access_token_file"].map(|key| (key, table.has(key)));
    table.one_of(keys, "where this connection's token is kept");
    file.or(access).or(secret).unwrap_or_else(|| TokenStore::File(std::path::PathBuf::new()))
}

/// Reads `exports`.
pub(super) fn exports(root: &Table<'_>, teams: &[(Text, Vec<Text>)], connections: &[FoundConnection]) -> Vec<FoundExport> {
    let found =
        root.need_named("exports", "export (segments and their list)", |name, table| export(name, table, teams, connections));
    let mut lists: BTreeMap<(Option<&Text>, String), &Text> = BTreeMap::new();
    for export in &found {
        let key = match &export.list {
            ListRef::Id(id) if id.is_nil() => continue,
            // Ids are unique over all accounts, names within one.
            ListRef::Id(id) => (None, id.to_string()),
            ListRef::Named { name, .. } if name.is_empty() => continue,
            ListRef::Named { name, .. } if name.starts_with(STAGING_PREFIX) => {
                let path = format!("exports.{}.list.name", export.config.name);
                let why = format!("begins with \"{STAGING_PREFIX}\", as the lists do that removals use: name another list");
                root.walk().fault(&path, None, why);
                continue;
            }
            ListRef::Named { name, .. } => (Some(&export.connection), name.to_lowercase().into()),
        };
        if let Some(first) = lists.insert(key, &export.config.name) {
            let path = format!("exports.{}.list", export.config.name);
            root.walk().fault(
                &path,
                None,
                format!("is also the list of exports.{first}: a list belongs to one export, put all segments into that one"),
            );
        }
    }
    found
}

fn export(name: &str, table: &Table<'_>, teams: &[(Text, Vec<Text>)], connections: &[FoundConnection]) -> FoundExport {
    let owner = table.text("owner").map(Text::from);
    let connection: Text = table.need_text("connection", "name one of the connections").into();
    let known = connections.iter().find(|known| known.config.name == connection);
    if known.is_none() && !connection.is_empty() {
        table.fault("connection", "names no connection: use a name under connections");
    }
    if let Some(owner) = &owner {
        if !is_team(owner, teams) {
            table.fault("owner", "names a team that is not there: use a name under teams");
        } else if known.is_some_and(|known| owner != ADMINISTRATORS && !known.config.used_by.contains(owner)) {
            table.fault("owner", format!("may not use this connection: add the team to connections.{connection}.used_by"));
        }
    }
    let (removal_strategies, removals_hold_above_percent) = table.table("removals", removals);
    mode(table);
    let backfill = table.choice("backfill", [("from_source", Backfill::FromSource), ("none", Backfill::None)]);
    let existing_members =
        table.choice("existing_members", [("protect", ExistingMembers::Protect), ("adopt", ExistingMembers::Adopt)]);
    if existing_members == ExistingMembers::Adopt && backfill == Backfill::None {
        table.fault(
                "existing_members",
                "may not be adopt with `backfill: none`: who is in a segment because of an earlier event would be taken off the list; \
                 use protect, or backfill: from_source",
            );
    }
    FoundExport {
        config: ExportConfig { name: name.into(), owner, existing_members },
        connection,
        list: table.table("list", list),
        segments: segments(table),
        fields: table.table("fields", fields),
        no_address: table.choice("no_address", [("skip", NoAddress::Skip), ("dead_letter", NoAddress::DeadLetter)]),
        on_exit: table.choice("on_exit", [("remove", OnExit::Remove), ("keep", OnExit::Keep)]),
        backfill,
        removal_strategies,
        removals_hold_above_percent,
        profiles_per_hour_max: table.limit("profiles_per_hour_max", 1..=1_000_000_000, Some(PROFILES_PER_HOUR_MAX)),
        weight: narrow(table.number("weight", 1..=1000, 1)),
        starts_at_once: table.choice("starts", [("when_run", false), ("at_once", true)]),
    }
}

fn list(table: &Table<'_>) -> ListRef {
    let id = table.text("id");
    let name = table.text("name");
    let create = table.flag("create", false);
    table.one_of(["id", "name"].map(|key| (key, table.has(key))), "the list's id, the address of its page, or its name");
    table.goes_with("create", "name");
    match (id, name) {
        (Some(id), _) => {
            let found = list_id(&id);
            if found.is_none() {
                table.fault("id", "has no list id in it: copy the id, or the address of the list's page, from the account");
            }
            ListRef::Id(found.unwrap_or_default())
        }
        (None, name) => {
            let name = name.unwrap_or_default();
            if name.chars().count() > 255 {
                table.fault("name", "is too long: the vendor takes at most 255 characters");
            }
            ListRef::Named { name: name.into(), create }
        }
    }
}

/// The id in a text that is one, or that is the address of the list's page.
fn list_id(text: &str) -> Option<Uuid> {
    let mut found = text
        .split(|c: char| !(c.is_ascii_hexdigit() || c == '-'))
        .filter(|part| part.len() == 36)
        .filter_map(|part| Uuid::try_parse(part).ok())
        .filter(|id| !id.is_nil());
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

fn segments(table: &Table<'_>) -> Vec<Text> {
    let found = table.need_texts("segments", "name at least one segment");
    if found.len() > SEGMENTS_PER_EXPORT_MAX {
        table.fault(
            "segments",
            format!("are too many: an export takes at most {SEGMENTS_PER_EXPORT_MAX}, make it several exports"),
        );
    }
    let mut sorted: Vec<&String> = found.iter().collect();
    sorted.sort();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        table.fault("segments", "names a segment twice: remove one of the two");
    }
    found.into_iter().map(Text::from).collect()
}

fn fields(table: &Table<'_>) -> FoundFields {
    let custom = table.named_text("custom", false);
    let mut names: Vec<String> = Vec::new();
    for (name, path) in &custom {
        let here = table.path_of(&format!("custom.{name}"));
        if !is_dotted(path) {
            table.walk().fault(
                &here,
                table.line,
                "is no path into a record: write names with dots between them, as in profile.attributes.tier",
            );
        }
        // The vendor compares names of fields without regard to case.
        let folded = name.trim().to_lowercase();
        if folded.is_empty() || folded.len() > 50 {
            table.walk().fault(&here, table.line, "the field's name does not fit: the vendor takes 1 to 50 characters");
        } else if names.contains(&folded) {
            table.walk().fault(
                &here,
                table.line,
                "is the same custom field as another: names that differ in case alone are one to the vendor",
            );
        }
        names.push(folded);
    }
    FoundFields {
        email: table.need_dotted("email", "the path of the address in a record, as in profile.email").into(),
        first_name: table.dotted("first_name").map(Text::from),
        last_name: table.dotted("last_name").map(Text::from),
        custom: custom.into_iter().map(|(name, path)| (name.into(), path.into())).collect(),
    }
}

fn removals(table: &Table<'_>) -> (Vec<RemovalStrategy>, u8) {
    let all = [RemovalStrategy::LookUp, RemovalStrategy::Scan, RemovalStrategy::StagingList];
    let words = all.map(|strategy| (strategy.as_str(), strategy));
    let usual = [RemovalStrategy::LookUp.as_str(), RemovalStrategy::Scan.as_str()];
    let strategies = table.choices("strategies", words, &usual);
    (strategies, narrow(table.number("hold_above_percent", 1..=100, 20)))
}

/// When an export runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Continuous,
    OnDemand,
    Scheduled,
}

fn mode(table: &Table<'_>) {
    let words = [("continuous", Mode::Continuous), ("on_demand", Mode::OnDemand)];
    let mode = table.choice_or_table("mode", words, |mode| {
        mode.table("schedule", |schedule| {
            schedule.need_text("cron", "say when it begins, as in \"0 6 * * 1-5\"");
            schedule.text("time_zone");
            schedule.text("window");
        });
        Mode::Scheduled
    });
    match mode {
        Mode::Continuous => {}
        Mode::OnDemand => table.walk().not_yet(table.path_of("mode"), "runs on demand are not there yet: use continuous"),
        Mode::Scheduled => table.walk().not_yet(table.path_of("mode"), "schedules are not there yet: use continuous"),
    }
}

#[cfg(test)]
mod tests {
    use super::list_id;

    #[test]
    fn the_id_of_a_list_is_found_in_its_page_address() {
        let id = "04fe9a97-a579-43c5-bb1a-58ed29bf0a6a";
        let page = format!("https://app.constantcontact.com/pages/contacts/ui#/lists/{id}?sort=name");
        for (text, found) in
            [(id, true), (&page, true), ("spring", false), ("", false), ("00000000-0000-0000-0000-000000000000", false)]
        {
            assert_eq!(list_id(text).is_some_and(|found| found.to_string() == id), found, "{text}");
        }
        assert_eq!(list_id(&format!("{id}/8c077f20-1586-11e4-bcb3-00163e56be7c")), None, "two ids: which one is meant?");
    }
}
