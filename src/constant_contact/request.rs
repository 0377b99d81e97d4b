//! Words → `http` requests.

use bytes::Bytes;
use http::{Method, header};
use serde_json::json;
use url::Url;

use crate::model::call::{Cursor, RemovalSource, Request};

use super::{
    csv,
    limits::{LISTS_PAGE_MAX, PAGE_ITEMS_MAX},
};

/// The request of a call, without its `Authorization`. `api` is the address that ends in `/v3`.
///
/// `boundary_seed` makes the multipart boundary of an import one that its rows do not hold by accident.
#[must_use]
pub fn encode(api: &Url, request: &Request, boundary_seed: u64) -> http::Request<Bytes> {
    match request {
        Request::Import { name, lists, rows } => {
            let boundary = format!("listkeeper-{boundary_seed:016x}");
            let lists: Vec<String> = lists.iter().map(ToString::to_string).collect();
            let file = csv::encode(rows);
            let mut body = Vec::with_capacity(file.len() + 512);
            let head = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"list_ids\"\r\n\r\n{}\r\n\
                 --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: text/csv\r\n\r\n",
                lists.join(","),
                name.file_name()
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&file);
            body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
            let url = address(api, "activities/contacts_file_import", &[]);
            build(Method::POST, &url, Some(&format!("multipart/form-data; boundary={boundary}")), Bytes::from(body))
        }
        Request::Remove { source, targets } => {
            let source = match source {
                RemovalSource::Contacts(ids) => json!({ "contact_ids": ids }),
                RemovalSource::Lists(ids) => json!({ "list_ids": ids }),
            };
            let body = json!({ "source": source, "list_ids": targets });
            post_json(&address(api, "activities/remove_list_memberships", &[]), &body)
        }
        Request::DeleteContacts { contacts } => {
            post_json(&address(api, "activities/contact_delete", &[]), &json!({ "contact_ids": contacts }))
        }
        Request::Activity { activity_id } => get(&address(api, &format!("activities/{activity_id}"), &[])),
        Request::Activities { cursor } => get(&paged(api, "activities", &[], cursor.as_ref())),
        Request::ListMembers { list, cursor } => {
            let filters = [("lists", list.to_string()), ("status", "all".to_owned()), ("include", "list_memberships".to_owned())];
            get(&paged(api, "contacts", &filters, cursor.as_ref()))
        }
        Request::LookUp { address: email } => {
            let filters =
                [("email", email.to_string()), ("status", "all".to_owned()), ("include", "list_memberships".to_owned())];
            get(&address(api, "contacts", &filters))
        }
        Request::Suppressed { updated_after, cursor } => {
            let mut filters = vec![("status", "deleted,unsubscribed".to_owned())];
            let after = updated_after.and_then(|at| jiff::Timestamp::from_millisecond(at.0).ok());
            filters.extend(after.map(|at| ("updated_after", at.to_string())));
            get(&paged(api, "contacts", &filters, cursor.as_ref()))
        }
        Request::FindList { name } => {
            let filters = [("name", name.to_string()), ("include_membership_count", "all".to_owned())];
            get(&address(api, "contact_lists", &filters))
        }
        Request::List { list } => {
            let filters = [("include_membership_count", "all".to_owned())];
            get(&address(api, &format!("contact_lists/{list}"), &filters))
        }
        Request::CreateList { name } => {
            let body = json!({ "name": name, "description": "Kept in step by Listkeeper" });
            post_json(&address(api, "contact_lists", &[]), &body)
        }
        Request::Lists { cursor } => {
            let filters = match cursor {
                // The cursor carries filters and limit with it.
                Some(Cursor(cursor)) => vec![("cursor", cursor.to_string())],
                None => vec![("include_membership_count", "all".to_owned()), ("limit", LISTS_PAGE_MAX.to_string())],
            };
            get(&address(api, "contact_lists", &filters))
        }
        Request::DeleteList { list } => {
            build(Method::DELETE, &address(api, &format!("contact_lists/{list}"), &[]), None, Bytes::new())
        }
        Request::ContactCounts => get(&address(api, "contacts/counts", &[])),
    }
}

/// A listing's first page, or the one behind a cursor: the cursor carries filters and limit with it.
fn paged(api: &Url, path: &str, filters: &[(&str, String)], cursor: Option<&Cursor>) -> Url {
    match cursor {
        Some(Cursor(cursor)) => address(api, path, &[("cursor", cursor.to_string())]),
        None => {
            let mut filters = filters.to_vec();
            filters.push(("limit", PAGE_ITEMS_MAX.to_string()));
            address(api, path, &filters)
        }
    }
}

fn address(api: &Url, path: &str, query: &[(&str, String)]) -> Url {
    let mut url = api.clone();
    url.set_path(&format!("{}/{path}", api.path().trim_end_matches('/')));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

fn get(url: &Url) -> http::Request<Bytes> {
    build(Method::GET, url, None, Bytes::new())
}

fn post_json(url: &Url, body: &serde_json::Value) -> http::Request<Bytes> {
    build(Method::POST, url, Some("application/json"), Bytes::from(body.to_string()))
}

fn build(method: Method, url: &Url, content_type: Option<&str>, body: Bytes) -> http::Request<Bytes> {
    let mut request = http::Request::builder().method(method).uri(url.as_str()).header(header::ACCEPT, "application/json");
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    // Every part is a URL that was parsed or a header made here.
    request.body(body).unwrap_or_else(|_| unreachable!("a request to a parsed address"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        ContactId, ListId,
        batch::{BatchName, ImportRows},
        row::Row,
        time::UnixMillis,
    };

    fn api() -> Url {
        Url::parse("http://127.0.0.1:8090/v3").unwrap()
    }

    #[test]
    fn each_read_has_the_documented_address() {
        let list = ListId::from_u128(1);
        for (request, expected) in [
            (Request::Activities { cursor: None }, "/v3/activities?limit=500"),
            (Request::Activities { cursor: Some(Cursor("bGlt=".into())) }, "/v3/activities?cursor=bGlt%3D"),
            (Request::Activity { activity_id: list }, "/v3/activities/00000000-0000-0000-0000-000000000001"),
            (
                Request::ListMembers { list, cursor: None },
                "/v3/contacts?lists=00000000-0000-0000-0000-000000000001&status=all&include=list_memberships&limit=500",
            ),
            (
                Request::LookUp { address: "a+b@example.com".into() },
                "/v3/contacts?email=a%2Bb%40example.com&status=all&include=list_memberships",
            ),
            (
                Request::Suppressed { updated_after: Some(UnixMillis(0)), cursor: None },
                "/v3/contacts?status=deleted%2Cunsubscribed&updated_after=1970-01-01T00%3A00%3A00Z&limit=500",
            ),
            (Request::FindList { name: "VIP & co".into() }, "/v3/contact_lists?name=VIP+%26+co&include_membership_count=all"),
            (Request::Lists { cursor: None }, "/v3/contact_lists?include_membership_count=all&limit=1000"),
            (Request::Lists { cursor: Some(Cursor("bGlt=".into())) }, "/v3/contact_lists?cursor=bGlt%3D"),
            (Request::ContactCounts, "/v3/contacts/counts"),
        ] {
            let built = encode(&api(), &request, 0);
            assert_eq!(built.uri().path_and_query().unwrap().as_str(), expected);
            assert_eq!(built.method(), Method::GET);
        }
    }

    #[test]
    fn a_list_is_deleted_by_its_id() {
        let built = encode(&api(), &Request::DeleteList { list: ListId::from_u128(1) }, 0);
        assert_eq!(
            (built.method(), built.uri().path()),
            (&Method::DELETE, "/v3/contact_lists/00000000-0000-0000-0000-000000000001")
        );
    }

    #[test]
    fn an_import_is_a_form_with_a_named_file() {
        let rows = ImportRows {
            custom_fields: Arc::from([]),
            has_first_name: false,
            has_last_name: false,
            rows: Arc::from([("a@example.com".into(), Row::default())]),
        };
        let request =
            Request::Import { name: BatchName("b17".into()), lists: vec![ListId::from_u128(1), ListId::from_u128(2)], rows };
        let built = encode(&api(), &request, 5);
        assert_eq!(built.headers()[header::CONTENT_TYPE], "multipart/form-data; boundary=listkeeper-0000000000000005");
        let body = std::str::from_utf8(built.body()).unwrap();
        assert!(body.contains("name=\"file\"; filename=\"b17.csv\"\r\nContent-Type: text/csv\r\n\r\nemail\na@example.com\n"));
        assert!(body.contains("00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000002\r\n"));
    }

    #[test]
    fn a_deletion_names_ids() {
        let built = encode(&api(), &Request::DeleteContacts { contacts: vec![ContactId::from_u128(3)] }, 0);
        assert_eq!((built.method(), built.uri().path()), (&Method::POST, "/v3/activities/contact_delete"));
        assert_eq!(&built.body()[..], br#"{"contact_ids":["00000000-0000-0000-0000-000000000003"]}"#);
    }

    #[test]
    fn a_removal_names_ids_or_lists() {
        let source = RemovalSource::Contacts(vec![ContactId::from_u128(3)]);
        let built = encode(&api(), &Request::Remove { source, targets: vec![ListId::from_u128(1)] }, 0);
        let body: serde_json::Value = serde_json::from_slice(built.body()).unwrap();
        assert_eq!(
            body,
            json!({"source": {"contact_ids": ["00000000-0000-0000-0000-000000000003"]}, "list_ids": ["00000000-0000-0000-0000-000000000001"]})
        );
    }
}
