//! `GET /contacts`.

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    account::{Account, Contact},
    answer::{Answer, instant},
    config::VendorConfig,
    query::Query,
};
use crate::model::{Text, address, call::ContactStatus};

/// All documented ones but `segment_id`: this account has no segments.
const KNOWN: [&str; 14] = [
    "email",
    "lists",
    "tags",
    "status",
    "sms_status",
    "updated_after",
    "updated_before",
    "created_after",
    "created_before",
    "optout_after",
    "optout_before",
    "include",
    "include_count",
    "limit",
];
const SMS_STATUSES: [&str; 5] = ["all", "explicit", "unsubscribed", "pending_confirmation", "not_set"];
const TAGS_FILTERED_MAX: usize = 50;
const STATUSES: [&str; 7] = ["all", "active", "deleted", "not_set", "pending_confirmation", "temp_hold", "unsubscribed"];
const INCLUDES: [&str; 6] = ["custom_fields", "list_memberships", "phone_numbers", "street_addresses", "taggings", "notes"];
const LISTS_FILTERED_MAX: usize = 25;
/// Who was made a contact within 30 days is a new subscriber.
const NEW_SUBSCRIBER_S: u32 = 30 * 86_400;

/// What a contact must be to be listed.
struct Filter {
    email: Option<u32>,
    by_email: bool,
    lists: Vec<u32>,
    by_list: bool,
    /// Memberships that the index does not show yet, now.
    now_s: u32,
    active: bool,
    unsubscribed: bool,
    deleted: bool,
    /// Tags, or a state for text messages that no contact here has.
    none: bool,
    updated: Span,
    created: Span,
    opted_out: Span,
}

/// From when to when, in seconds since 1970. Times are kept in whole seconds: one that may lie within is shown.
#[derive(Debug, Clone, Copy)]
struct Span {
    after_s: Option<i64>,
    before_s: Option<i64>,
}

impl Span {
    fn parse(query: &Query, after: &str, before: &str) -> Result<Self, Answer> {
        let seconds = |name: &str| {
            let parsed = query.value(name).map(|text| text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second));
            parsed.transpose().map_err(|_| Answer::invalid(&format!("{name} does not have a valid value")))
        };
        Ok(Self { after_s: seconds(after)?, before_s: seconds(before)? })
    }

    /// Whether a time lies within; one that never was lies within no bound.
    fn takes(self, at_s: Option<u32>) -> bool {
        let within =
            |at_s: i64| self.after_s.is_none_or(|after| at_s >= after) && self.before_s.is_none_or(|before| at_s <= before);
        at_s.map_or(self.after_s.is_none() && self.before_s.is_none(), |at_s| within(i64::from(at_s)))
    }
}

impl Filter {
    fn parse(account: &Account, query: &Query, now_s: u32) -> Result<Self, Answer> {
        let statuses = query.values("status");
        if statuses.iter().any(|status| !STATUSES.contains(status)) {
            return Err(Answer::invalid("status does not have a valid value"));
        }
        let has = |status| statuses.contains(&"all") || statuses.contains(&status);
        let ids = query.values("lists");
        if ids.len() > LISTS_FILTERED_MAX {
            return Err(Answer::invalid("lists must have at most 25 values"));
        }
        let mut lists = Vec::new();
        for id in &ids {
            let id: Uuid = id.parse().map_err(|_| Answer::invalid("lists does not have a valid value"))?;
            lists.extend(account.list_number(id));
        }
        let email = query.value("email");
        let (tags, sms) = (query.values("tags"), query.values("sms_status"));
        if tags.len() > TAGS_FILTERED_MAX {
            return Err(Answer::invalid("tags must have at most 50 values"));
        }
        if sms.iter().any(|status| !SMS_STATUSES.contains(status)) {
            return Err(Answer::invalid("sms_status does not have a valid value"));
        }
        let no_sms = !sms.is_empty() && !sms.iter().any(|status| ["all", "not_set"].contains(status));
        Ok(Self {
            email: email.and_then(|raw| address::normalise(raw).ok()).and_then(|address| account.find(&address)),
            by_email: email.is_some(),
            lists,
            by_list: !ids.is_empty(),
            now_s,
            active: statuses.is_empty() || has("active"),
            unsubscribed: statuses.is_empty() || has("unsubscribed"),
            deleted: has("deleted"),
            none: !tags.is_empty() || no_sms,
            updated: Span::parse(query, "updated_after", "updated_before")?,
            created: Span::parse(query, "created_after", "created_before")?,
            opted_out: Span::parse(query, "optout_after", "optout_before")?,
        })
    }

    fn takes(&self, contact: &Contact, opted_out_s: impl FnOnce() -> Option<u32>) -> bool {
        let status = match contact.status {
            ContactStatus::Active => self.active,
            ContactStatus::Unsubscribed => self.unsubscribed,
            ContactStatus::Deleted => self.deleted,
        };
        status
            && !self.none
            && self.updated.takes(Some(contact.updated_s))
            && self.created.takes(Some(contact.created_s))
            && self.opted_out.takes(opted_out_s())
    }

    /// The numbers from `first` on of the contacts that match, ascending.
    fn matching<'a>(&'a self, account: &'a Account, first: u32) -> Box<dyn Iterator<Item = u32> + 'a> {
        let takes = move |&number: &u32| {
            account.contact(number).is_some_and(|contact| self.takes(contact, || account.opted_out_s(number)))
        };
        if self.by_email {
            let on_list = |number: u32| !self.by_list || self.on_any_list(account, number);
            return Box::new(self.email.into_iter().filter(move |&number| number >= first && on_list(number)).filter(takes));
        }
        if let [list] = self.lists[..] {
            let members = account.lists.get(list as usize).into_iter().flat_map(move |list| list.members.from(first));
            return Box::new(members.filter(takes).filter(move |&number| !account.hides(number, list, self.now_s)));
        }
        let all = first..u32::try_from(account.contacts.len()).unwrap_or(u32::MAX);
        Box::new(all.filter(takes).filter(move |&number| !self.by_list || self.on_any_list(account, number)))
    }

    fn on_any_list(&self, account: &Account, number: u32) -> bool {
        self.lists.iter().any(|&list| {
            let on = account.lists.get(list as usize).is_some_and(|list| list.members.contains(number));
            on && !account.hides(number, list, self.now_s)
        })
    }
}

/// A contact as it is shown. Written straight from the account, because a list is scanned in pages of 500.
#[derive(Serialize)]
struct Shown<'a> {
    contact_id: Uuid,
    email_address: EmailAddress<'a>,
    create_source: &'static str,
    update_source: &'static str,
    created_at: Text,
    updated_at: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    list_memberships: Option<Vec<Uuid>>,
}

#[derive(Serialize)]
struct EmailAddress<'a> {
    address: &'a str,
    permission_to_send: &'static str,
    created_at: Text,
    updated_at: Text,
    opt_in_source: &'static str,
    opt_in_date: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_out_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_out_date: Option<Text>,
    confirm_status: &'static str,
}

/// A page of contacts.
#[derive(Serialize)]
struct Page<'a> {
    contacts: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contacts_count: Option<usize>,
    #[serde(rename = "_links", skip_serializing_if = "Option::is_none")]
    links: Option<Value>,
}

fn shown(account: &Account, number: u32, with_lists: bool, now_s: u32) -> Option<Shown<'_>> {
    let contact = account.contact(number)?;
    let text = |at_s: u32| Text::from(instant(i64::from(at_s)));
    let (created_at, updated_at) = (text(contact.created_s), text(contact.updated_s));
    let opt_out_date = account.opted_out_s(number).map(text);
    let (permission_to_send, opt_out_source, deleted_at) = match contact.status {
        ContactStatus::Active => ("implicit", None, None),
        ContactStatus::Unsubscribed => ("unsubscribed", Some("Contact"), None),
        ContactStatus::Deleted => ("implicit", Some("Account"), opt_out_date.clone()),
    };
    Some(Shown {
        contact_id: account.contact_id(number),
        email_address: EmailAddress {
            address: account.address(number),
            permission_to_send,
            created_at: created_at.clone(),
            updated_at: updated_at.clone(),
            opt_in_source: "Account",
            opt_in_date: created_at.clone(),
            opt_out_source,
            opt_out_date,
            confirm_status: "off",
        },
        create_source: "Account",
        update_source: "Account",
        created_at,
        updated_at,
        deleted_at,
        list_memberships: with_lists.then(|| account.lists_of(number, now_s).collect()),
    })
}

/// Whether the lists of a contact are asked for.
fn with_lists(query: &Query) -> Result<bool, Answer> {
    let includes = query.values("include");
    if includes.iter().any(|include| !INCLUDES.contains(include)) {
        return Err(Answer::invalid("include does not have a valid value"));
    }
    Ok(includes.contains(&"list_memberships"))
}

/// `GET /contacts/{contact_id}`; a deleted contact is shown too.
pub(super) fn one(account: &Account, id: &str, query: &Query, now_s: u32) -> Result<Answer, Answer> {
    query.only(&["include"])?;
    let with_lists = with_lists(query)?;
    let id: Uuid = id.parse().map_err(|_| Answer::not_found("contact_id is in an invalid format."))?;
    let shown = account.contact_number(id).and_then(|number| shown(account, number, with_lists, now_s));
    Ok(Answer::json(StatusCode::OK, &shown.ok_or_else(|| Answer::not_found("contact_id not found"))?))
}

/// `GET /contacts/counts`: contacts by their consent, which imports infer. Deleted ones are no contacts, and whom an import
/// made so shortly before that the index does not show it is not counted: neither is documented.
pub(super) fn counts(account: &Account, config: &VendorConfig, query: &Query, now_s: u32) -> Result<Answer, Answer> {
    query.only(&["include"])?;
    let include = query.value("include");
    if include.is_some_and(|include| include != "new_subscriber") {
        return Err(Answer::invalid("include does not have a valid value"));
    }
    let shown = (0..).zip(&account.contacts).filter(|(number, contact)| {
        let fresh = contact.created_s.saturating_add(config.index_lag_s) > now_s;
        !(fresh && account.is_unindexed(*number, now_s))
    });
    let (mut implicit, mut unsubscribed, mut new) = (0_u64, 0_u64, 0_u64);
    for (_, contact) in shown {
        match contact.status {
            ContactStatus::Active => implicit += 1,
            ContactStatus::Unsubscribed => unsubscribed += 1,
            ContactStatus::Deleted => continue,
        }
        new += u64::from(now_s - contact.created_s <= NEW_SUBSCRIBER_S);
    }
    let total = implicit + unsubscribed;
    let mut body = json!({ "total": total, "explicit": 0, "implicit": implicit, "pending": 0, "unsubscribed": unsubscribed });
    if include.is_some() {
        body["new_subscriber"] = json!(new);
    }
    Ok(Answer::json(StatusCode::OK, &body))
}

/// `GET /contacts`.
pub(super) fn listing(account: &Account, query: &Query, now_s: u32) -> Result<Answer, Answer> {
    query.only(&KNOWN)?;
    let limit = query.limit(500)?;
    let with_lists = with_lists(query)?;
    let filter = Filter::parse(account, query, now_s)?;
    let first =
        query.next()?.map_or(Ok(0), |id| account.contact_number(id).ok_or_else(|| Answer::invalid("cursor is unknown")))?;
    let mut rest = filter.matching(account, first);
    let contacts = rest.by_ref().take(limit).filter_map(|number| shown(account, number, with_lists, now_s)).collect();
    let contacts_count = query.flag("include_count")?.then(|| filter.matching(account, 0).count());
    let links =
        rest.next().map(|next| json!({ "next": { "href": query.next_href("/v3/contacts", limit, account.contact_id(next)) } }));
    Ok(Answer::json(StatusCode::OK, &Page { contacts, contacts_count, links }))
}
