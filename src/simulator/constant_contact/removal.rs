//! `POST /activities/remove_list_memberships` and `POST /activities/contact_delete`.

use serde_json::Value;
use uuid::Uuid;

use super::{
    account::{Account, list_numbers},
    activities::Counts,
    answer::Answer,
    config::{SourceAmongTargets, VendorConfig},
};
use crate::model::call::ContactStatus;

const CONTACTS_MAX: usize = 500;

/// Who leaves. Members of lists are read when the work is done.
#[derive(Debug)]
enum Source {
    Contacts { known: Vec<u32>, named: u64 },
    Lists(Vec<u32>),
    AllActive,
}

/// A checked removal, waiting for its time.
#[derive(Debug)]
pub(super) struct Removal {
    source: Source,
    exclude: Vec<u32>,
    pub(super) lists: Vec<u32>,
}

fn texts<'a>(value: &'a Value, name: &str) -> Result<Vec<&'a str>, Answer> {
    let invalid = || Answer::invalid(&format!("{name} does not have a valid value"));
    let values = value.as_array().ok_or_else(invalid)?;
    values.iter().map(|value| value.as_str().ok_or_else(invalid)).collect()
}

fn contacts(account: &Account, value: &Value) -> Result<(Vec<u32>, u64), Answer> {
    let ids = texts(value, "contact_ids")?;
    if ids.is_empty() || ids.len() > CONTACTS_MAX {
        return Err(Answer::invalid("contact_ids must have 1 to 500 values"));
    }
    let mut known = Vec::with_capacity(ids.len());
    for id in &ids {
        let id: Uuid = id.parse().map_err(|_| Answer::invalid("contact_id is in an invalid format."))?;
        known.extend(account.contact_number(id));
    }
    Ok((known, ids.len() as u64))
}

/// A checked deletion of contacts, waiting for its time.
#[derive(Debug)]
pub(super) struct Deletion {
    pub(super) known: Vec<u32>,
    pub(super) named: u64,
}

impl Deletion {
    /// Checks a request; nothing is done yet. Contacts are named by their ids alone: nobody needs whole lists here.
    pub(super) fn parse(account: &Account, body: &Value) -> Result<Self, Answer> {
        let ids = body.get("contact_ids").ok_or_else(|| Answer::invalid("contact_ids is missing"))?;
        let (mut known, named) = contacts(account, ids)?;
        known.sort_unstable();
        known.dedup();
        Ok(Self { known, named })
    }

    /// Deletes the first `contacts_max` of them; ids that are unknown, or of contacts that are deleted already, change nothing.
    pub(super) fn apply(&self, account: &mut Account, now_s: u32, contacts_max: usize) -> Counts {
        for &number in self.known.iter().take(contacts_max) {
            let there = account.contacts.get(number as usize).is_some_and(|contact| contact.status != ContactStatus::Deleted);
            if there {
                account.set_status(number, ContactStatus::Deleted, now_s);
            }
        }
        let done = self.named.min(contacts_max as u64);
        Counts { items_total: self.named, items_completed: done, ..Counts::default() }
    }
}

impl Removal {
    /// Checks a request; nothing is done yet. What is `false`, null or empty counts as absent.
    pub(super) fn parse(account: &Account, config: &VendorConfig, body: &Value) -> Result<Self, Answer> {
        let present = |value: &&Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(values) => !values.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_) => true,
        };
        let source = body.get("source").and_then(Value::as_object).ok_or_else(|| Answer::invalid("source is missing"))?;
        let mut selectors = source.iter().filter(|(_, value)| present(value));
        let (Some((selector, value)), None) = (selectors.next(), selectors.next()) else {
            return Err(Answer::invalid("source must have exactly one selector"));
        };
        let source = match selector.as_str() {
            "contact_ids" => {
                let (known, named) = contacts(account, value)?;
                Source::Contacts { known, named }
            }
            "list_ids" => Source::Lists(list_numbers(account, &texts(value, "list_ids")?)?),
            "all_active_contacts" if value == &Value::Bool(true) => Source::AllActive,
            _ => return Err(Answer::invalid("source has a selector that does not have a valid value")),
        };
        let exclude = match body.pointer("/exclude/contact_ids").filter(present) {
            None => Vec::new(),
            Some(_) if matches!(source, Source::Contacts { .. }) => {
                return Err(Answer::invalid("exclude goes with all_active_contacts or list_ids only"));
            }
            Some(value) => contacts(account, value)?.0,
        };
        let targets = body.get("list_ids").ok_or_else(|| Answer::invalid("list_ids is missing"))?;
        let lists = list_numbers(account, &texts(targets, "list_ids")?)?;
        let removal = Self { source, exclude, lists };
        if config.source_among_targets == SourceAmongTargets::Refused && removal.names_its_source_and_others() {
            return Err(Answer::invalid("list_ids names a list of the source"));
        }
        Ok(removal)
    }

    fn names_its_source_and_others(&self) -> bool {
        self.lists.len() > 1 && self.lists.iter().any(|&list| self.is_source(list))
    }

    fn is_source(&self, list: u32) -> bool {
        matches!(&self.source, Source::Lists(lists) if lists.contains(&list))
    }

    /// Whom it names now, ascending, each once.
    pub(super) fn contacts(&self, account: &Account) -> Vec<u32> {
        let mut numbers: Vec<u32> = match &self.source {
            Source::Contacts { known, .. } => known.clone(),
            Source::Lists(lists) => lists.iter().flat_map(|&list| account.members(list)).collect(),
            Source::AllActive => (0..)
                .zip(&account.contacts)
                .filter(|(_, contact)| contact.status == ContactStatus::Active)
                .map(|(number, _)| number)
                .collect(),
        };
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| !self.exclude.contains(number));
        numbers
    }

    /// How many contacts it names, as its counts say.
    pub(super) fn size(&self, account: &Account) -> u64 {
        match &self.source {
            Source::Contacts { named, .. } => *named,
            Source::Lists(_) | Source::AllActive => self.contacts(account).len() as u64,
        }
    }

    /// Takes the first `contacts_max` contacts off the lists; ids that are unknown, and contacts that are on none of them, change nothing.
    pub(super) fn apply(&self, account: &mut Account, config: &VendorConfig, now_s: u32, contacts_max: usize) -> Counts {
        let total = self.size(account);
        let both = self.names_its_source_and_others();
        let leaves = |list: u32| match config.source_among_targets {
            SourceAmongTargets::Leaves | SourceAmongTargets::Refused => true,
            SourceAmongTargets::EmptiedFirst => !both || self.is_source(list),
            SourceAmongTargets::Kept => !both || !self.is_source(list),
        };
        for number in self.contacts(account).into_iter().take(contacts_max) {
            for &list in self.lists.iter().filter(|&&list| leaves(list)) {
                account.leave(number, list, now_s);
            }
        }
        let done = total.min(contacts_max as u64);
        Counts { items_total: total, items_completed: done, lists: self.lists.len() as u64, ..Counts::default() }
    }
}
