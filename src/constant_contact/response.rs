//! `http` responses → words.

use bytes::Bytes;
use http::{HeaderMap, header};

use crate::model::{
    call::{Answer, Lost, Outcome, Request},
    time::UnixMillis,
};

use super::{error, wire};

/// What a response means for the call that it answers. A 2xx with a body that cannot be read leaves the outcome
/// unknown: the vendor did something.
#[must_use]
pub fn decode(request: &Request, response: &http::Response<Bytes>) -> Outcome {
    if !response.status().is_success() {
        return Outcome::Refused(error::refusal(request.kind(), response.status(), response.headers(), response.body()));
    }
    let body = response.body();
    let answer = match request {
        Request::Import { .. }
        | Request::Remove { .. }
        | Request::DeleteContacts { .. }
        | Request::Activity { .. }
        | Request::DeleteList { .. } => {
            serde_json::from_slice::<wire::WireActivity>(body).map(|wire| Answer::Activity(Box::new(wire.into())))
        }
        Request::Activities { .. } => {
            serde_json::from_slice::<wire::WireActivities>(body).map(|wire| Answer::Activities(wire.into()))
        }
        Request::ListMembers { .. } | Request::LookUp { .. } | Request::Suppressed { .. } => {
            serde_json::from_slice::<wire::WireContacts>(body).map(|wire| Answer::Contacts(wire.into()))
        }
        Request::FindList { .. } | Request::Lists { .. } => {
            serde_json::from_slice::<wire::WireLists>(body).map(|wire| Answer::Lists(wire.into()))
        }
        Request::List { .. } | Request::CreateList { .. } => {
            serde_json::from_slice::<wire::WireList>(body).map(|wire| Answer::List(wire.into()))
        }
        Request::ContactCounts => {
            serde_json::from_slice::<wire::WireContactCounts>(body).map(|wire| Answer::ContactCounts(wire.into()))
        }
    };
    answer.map_or(Outcome::Unknown(Lost::Unreadable), Outcome::Answered)
}

/// The vendor's clock: the `Date` of its answer (whole seconds).
#[must_use]
pub fn vendor_time(headers: &HeaderMap) -> Option<UnixMillis> {
    wire::http_date(headers.get(header::DATE)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ActivityId, ListId,
        activity::ActivityState,
        call::{ContactStatus, Cursor, Disposition},
    };

    fn response(status: u16, body: &str) -> http::Response<Bytes> {
        http::Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap()
    }

    #[test]
    fn an_activity_is_read_whatever_is_missing() {
        let request = Request::Activity { activity_id: ActivityId::from_u128(1) };
        let body = r#"{"activity_id":"00000000-0000-0000-0000-000000000001","state":"time_out","status":{},"percent_done":1,"unheard_of":[]}"#;
        let Outcome::Answered(Answer::Activity(activity)) = decode(&request, &response(200, body)) else { panic!("no activity") };
        assert_eq!(activity.state, ActivityState::TimedOut);
        assert_eq!(activity.counts.items_total, None);
    }

    #[test]
    fn a_listing_gives_its_cursor_and_never_its_links() {
        let request = Request::ListMembers { list: ListId::from_u128(1), cursor: None };
        let body = r#"{"contacts":[
            {"contact_id":"00000000-0000-0000-0000-000000000002","email_address":{"address":"Ana@Example.com","permission_to_send":"unsubscribed"}},
            {"contact_id":"00000000-0000-0000-0000-000000000003","deleted_at":"2026-01-01T00:00:00Z","email_address":{"address":"b@example.com"}},
            {"contact_id":"00000000-0000-0000-0000-000000000004"}],
            "_links":{"next":{"href":"/v3/contacts?cursor=bGltaXQ9NSZuZXh0PTI%3D"}}}"#;
        let Outcome::Answered(Answer::Contacts(page)) = decode(&request, &response(200, body)) else { panic!("no contacts") };
        assert_eq!(page.next, Some(Cursor("bGltaXQ9NSZuZXh0PTI=".into())));
        assert_eq!(page.items.len(), 2);
        assert_eq!((page.items[0].address.as_str(), page.items[0].status), ("ana@example.com", ContactStatus::Unsubscribed));
        assert_eq!(page.items[1].status, ContactStatus::Deleted);
    }

    #[test]
    fn a_success_that_cannot_be_read_is_no_success() {
        let request = Request::FindList { name: "x".into() };
        assert_eq!(decode(&request, &response(200, "<html>")), Outcome::Unknown(Lost::Unreadable));
        let Outcome::Refused(refusal) = decode(&request, &response(500, "")) else { panic!("not refused") };
        assert_eq!(refusal.disposition, Disposition::ServerError);
    }

    #[test]
    fn a_page_that_does_not_say_what_it_holds_is_not_an_empty_one() {
        let request = Request::Activities { cursor: None };
        assert_eq!(decode(&request, &response(200, r#"{"message":"maintenance"}"#)), Outcome::Unknown(Lost::Unreadable));
        let empty = decode(&request, &response(200, r#"{"activities":[]}"#));
        assert!(matches!(empty, Outcome::Answered(Answer::Activities(page)) if page.items.is_empty()));
    }

    #[test]
    fn the_contacts_of_an_account_are_counted_without_those_that_have_opted_out() {
        for (body, active) in [
            (r#"{"total":72,"explicit":10,"implicit":20,"pending":30,"unsubscribed":12,"unheard_of":1}"#, Some(60)),
            // Were those that have opted out not in the total, it would not be taken for more than it is.
            (r#"{"total":60,"explicit":10,"implicit":20,"pending":30,"unsubscribed":12}"#, Some(60)),
            (r#"{"total":72,"unsubscribed":12}"#, Some(60)),
            (r#"{"explicit":10}"#, None),
        ] {
            let outcome = decode(&Request::ContactCounts, &response(200, body));
            let counted =
                if let Outcome::Answered(Answer::ContactCounts(counts)) = outcome { Some(counts.active()) } else { None };
            assert_eq!(counted, active, "{body}");
        }
    }

    #[test]
    fn a_state_unheard_of_may_still_run_and_spoils_no_page() {
        let body = r#"{"activities":[
            {"activity_id":"00000000-0000-0000-0000-000000000001","state":"completed"},
            {"activity_id":"00000000-0000-0000-0000-000000000002","state":"queued"}],
            "_links":{"next":{"href":"/v3/activities?cursor=a+b%2Bc%3D"}}}"#;
        let outcome = decode(&Request::Activities { cursor: None }, &response(200, body));
        let Outcome::Answered(Answer::Activities(page)) = outcome else { panic!("no page") };
        let states: Vec<_> = page.items.iter().map(|activity| activity.state).collect();
        assert_eq!(states, [ActivityState::Completed, ActivityState::Processing]);
        assert_eq!(page.next, Some(Cursor("a+b+c=".into())));
    }
}
