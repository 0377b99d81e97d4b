//! `/contact_lists`.

use http::StatusCode;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    account::{Account, LISTS_MAX},
    answer::{Answer, instant},
    query::Query,
};
use crate::model::{Text, call::ContactStatus};

const NAME_CHARACTERS_MAX: usize = 255;

#[derive(Debug, Clone, Copy)]
enum Count {
    All,
    Active,
}

fn membership_count(query: &Query) -> Result<Option<Count>, Answer> {
    match query.value("include_membership_count") {
        None => Ok(None),
        Some("all") => Ok(Some(Count::All)),
        Some("active") => Ok(Some(Count::Active)),
        Some(_) => Err(Answer::invalid("include_membership_count does not have a valid value")),
    }
}

fn shown(account: &Account, number: u32, count: Option<Count>) -> Value {
    let Some(list) = account.lists.get(number as usize) else { return Value::Null };
    let mut shown = Map::new();
    let at = instant(i64::from(list.created_s));
    shown.insert("list_id".to_owned(), json!(account.list_id(number)));
    shown.insert("name".to_owned(), json!(list.name));
    if let Some(description) = &list.description {
        shown.insert("description".to_owned(), json!(description));
    }
    shown.insert("favorite".to_owned(), json!(list.favorite));
    shown.insert("created_at".to_owned(), json!(at));
    shown.insert("updated_at".to_owned(), json!(at));
    if let Some(count) = count {
        let count = match count {
            Count::All => list.members.count(),
            Count::Active => {
                let active =
                    |&member: &u32| account.contact(member).is_some_and(|contact| contact.status == ContactStatus::Active);
                account.members(number).filter(active).count() as u64
            }
        };
        shown.insert("membership_count".to_owned(), json!(count));
    }
    Value::Object(shown)
}

/// `GET /contact_lists`.
pub(super) fn listing(account: &Account, query: &Query) -> Result<Answer, Answer> {
    query.only(&["limit", "include_count", "include_membership_count", "name", "status", "channel_type"])?;
    // The text says 500, the schema 1,000.
    let limit = query.limit(1_000)?;
    let count = membership_count(query)?;
    for status in query.values("status") {
        if !["all", "active", "deleted"].contains(&status) {
            return Err(Answer::invalid("status does not have a valid value"));
        }
    }
    // Deleted lists are not shown again in this model, and none is for SMS.
    let statuses = query.values("status");
    let none = (!statuses.is_empty() && statuses.iter().all(|&status| status == "deleted"))
        || query.value("channel_type") == Some("sms");
    let first = query.next()?.map_or(Ok(0), |id| account.list_number(id).ok_or_else(|| Answer::invalid("cursor is unknown")))?;
    let name = query.value("name");
    let matching: Vec<u32> = account
        .lists_there()
        .filter(|(_, list)| !none && name.is_none_or(|name| list.name == name))
        .map(|(number, _)| number)
        .collect();
    let mut rest = matching.iter().copied().filter(|&number| number >= first);
    let lists: Vec<Value> = rest.by_ref().take(limit).map(|number| shown(account, number, count)).collect();
    let mut body = json!({ "lists": lists });
    if query.flag("include_count")? {
        body["lists_count"] = json!(matching.len());
    }
    if let Some(next) = rest.next() {
        body["_links"] = json!({ "next": { "href": query.next_href("/v3/contact_lists", limit, account.list_id(next)) } });
    }
    Ok(Answer::json(StatusCode::OK, &body))
}

/// `GET /contact_lists/{list_id}`.
pub(super) fn one(account: &Account, id: &str, query: &Query) -> Result<Answer, Answer> {
    query.only(&["include_membership_count"])?;
    let count = membership_count(query)?;
    let id: Uuid = id.parse().map_err(|_| Answer::not_found("list_id is in an invalid format."))?;
    let number = account.list_number(id).ok_or_else(|| Answer::not_found("list_id not found"))?;
    Ok(Answer::json(StatusCode::OK, &shown(account, number, count)))
}

/// `POST /contact_lists`.
pub(super) fn create(account: &mut Account, body: &Value, now_s: u32) -> Result<Answer, Answer> {
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default().trim();
    if name.is_empty() || name.chars().count() > NAME_CHARACTERS_MAX {
        return Err(Answer::invalid("name is missing, name does not have a valid value"));
    }
    if account.find_list(name).is_some() {
        return Err(Answer::conflict("Validation failed: List name already exists"));
    }
    if account.lists_there().count() >= LISTS_MAX {
        return Err(Answer::invalid("an account has at most 1000 lists"));
    }
    let description = match body.get("description") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(Text::new(text)),
        Some(_) => return Err(Answer::invalid("description does not have a valid value")),
    };
    let favorite = match body.get("favorite") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(favorite)) => *favorite,
        Some(_) => return Err(Answer::invalid("favorite does not have a valid value")),
    };
    let number = account.create_list(name, now_s);
    if let Some(list) = account.lists.get_mut(number as usize) {
        (list.description, list.favorite) = (description, favorite);
    }
    Ok(Answer::json(StatusCode::CREATED, &shown(account, number, None)))
}

/// `DELETE /contact_lists/{list_id}`: which list. One that is not there is a 400, as was seen, and not the 404 of the text.
pub(super) fn to_delete(account: &Account, id: &str) -> Result<u32, Answer> {
    let id: Uuid = id.parse().map_err(|_| Answer::invalid("list_id is in an invalid format."))?;
    account.list_number(id).ok_or_else(|| Answer::invalid("list_id not found"))
}
