//! `POST /activities/remove_list_memberships`.

use super::*;

const PATH: &str = "/v3/activities/remove_list_memberships";

#[test]
fn contacts_leave_the_named_lists_and_stay_contacts() {
    let (mut client, list) = with_list(VendorConfig::default());
    let other = client.vendor.plant_list("M");
    let a = client.plant("a@example.com", ContactStatus::Active, &[list, other]);
    client.plant("b@example.com", ContactStatus::Active, &[list]);
    let stranger = client.plant("c@example.com", ContactStatus::Active, &[other]);
    let unknown = "04fe9a97-a579-43c5-bb1a-58ed29bf0a6a";
    let (status, fresh) = client.post(PATH, &json!({ "source": { "contact_ids": [a, stranger, unknown] }, "list_ids": [list] }));
    assert_eq!((status, &fresh["state"]), (201, &json!("initialized")));
    assert!(fresh.get("source_file_name").is_none(), "removals have no name");
    assert_eq!(client.vendor.list_members(list).len(), 2, "not yet");
    let done = client.ended(&fresh);
    // Undocumented, and the model's choice: who is no member, or nobody, counts as done.
    assert_eq!(done["status"], json!({ "items_total_count": 3, "items_completed_count": 3, "list_count": 1 }));
    assert_eq!(client.vendor.list_members(list), ["b@example.com"]);
    assert_eq!(client.vendor.list_members(other), ["a@example.com", "c@example.com"]);
    assert_eq!(client.vendor.contact("a@example.com").unwrap().0, ContactStatus::Active);
}

#[test]
fn members_of_lists_leave_as_they_are_when_it_is_done() {
    let (mut client, staging) = with_list(VendorConfig::default());
    let target = client.vendor.plant_list("M");
    client.plant("a@example.com", ContactStatus::Active, &[staging, target]);
    let keep = client.plant("b@example.com", ContactStatus::Active, &[staging, target]);
    client.plant("c@example.com", ContactStatus::Active, &[target]);
    let body = json!({
        "source": { "list_ids": [staging] }, "exclude": { "contact_ids": [keep] }, "list_ids": [target, staging],
    });
    let (_, fresh) = client.post(PATH, &body);
    client.plant("late@example.com", ContactStatus::Active, &[staging, target]);
    let done = client.ended(&fresh);
    assert_eq!(done["status"], json!({ "items_total_count": 2, "items_completed_count": 2, "list_count": 2 }));
    assert_eq!(client.vendor.list_members(target), ["b@example.com", "c@example.com"]);
    assert_eq!(client.vendor.list_members(staging), ["b@example.com"]);
}

/// Whether a list may be the source and among those that are left is not documented: each of these is possible.
#[test]
fn what_becomes_of_a_source_that_is_among_the_targets() {
    for (choice, on_source, on_target) in [
        (SourceAmongTargets::Leaves, 0, 0),
        (SourceAmongTargets::EmptiedFirst, 0, 1),
        (SourceAmongTargets::Kept, 1, 0),
        (SourceAmongTargets::Refused, 1, 1),
    ] {
        let (mut client, staging) = with_list(VendorConfig { source_among_targets: choice, ..VendorConfig::default() });
        let target = client.vendor.plant_list("M");
        client.plant("a@example.com", ContactStatus::Active, &[staging, target]);
        let (status, fresh) = client.post(PATH, &json!({ "source": { "list_ids": [staging] }, "list_ids": [target, staging] }));
        assert_eq!(status, if choice == SourceAmongTargets::Refused { 400 } else { 201 });
        if status == 201 {
            assert_eq!(client.ended(&fresh)["status"]["items_completed_count"], 1, "its counts say nothing of it");
        }
        let members = [staging, target].map(|list| client.vendor.list_members(list).len());
        assert_eq!(members, [on_source, on_target], "{choice:?}");
        for list in [target, staging] {
            let (_, fresh) = client.post(PATH, &json!({ "source": { "list_ids": [staging] }, "list_ids": [list] }));
            client.ended(&fresh);
        }
        assert_eq!([staging, target].map(|list| client.vendor.list_members(list).len()), [0, usize::from(on_source < on_target)]);
    }
}

#[test]
fn all_active_contacts_leave() {
    let (mut client, list) = with_list(VendorConfig { instant: true, ..VendorConfig::default() });
    client.plant("a@example.com", ContactStatus::Active, &[list]);
    client.plant("out@example.com", ContactStatus::Unsubscribed, &[list]);
    assert_eq!(client.post(PATH, &json!({ "source": { "all_active_contacts": true }, "list_ids": [list] })).0, 201);
    assert_eq!(client.vendor.list_members(list), ["out@example.com"]);
}

#[test]
fn a_source_has_one_selector_within_its_limit() {
    let (mut client, list) = with_list(VendorConfig { instant: true, ..VendorConfig::default() });
    let id = client.plant("a@example.com", ContactStatus::Active, &[list]);
    let unknown = "04fe9a97-a579-43c5-bb1a-58ed29bf0a6a";
    for (source, lists, status) in [
        (json!({ "contact_ids": vec![&id; 500] }), json!([list]), 201),
        (json!({ "contact_ids": vec![&id; 501] }), json!([list]), 400),
        (json!({ "contact_ids": [] }), json!([list]), 400),
        (json!({ "contact_ids": ["a@example.com"] }), json!([list]), 400),
        (json!({ "contact_ids": id }), json!([list]), 400),
        (json!({ "list_ids": vec![list; 51] }), json!([list]), 400),
        (json!({ "list_ids": [unknown] }), json!([list]), 400),
        (json!({ "contact_ids": [id], "list_ids": [list] }), json!([list]), 400),
        // The vendor's own SDK sends these beside the one that is meant.
        (json!({ "contact_ids": [id], "all_active_contacts": false, "tag_ids": [], "list_ids": null }), json!([list]), 201),
        (json!({ "email_addresses": ["a@example.com"] }), json!([list]), 400),
        (json!({}), json!([list]), 400),
        (json!({ "contact_ids": [id] }), json!([]), 400),
        (json!({ "contact_ids": [id] }), json!([unknown]), 400),
        (json!({ "contact_ids": [id] }), json!(vec![list; 51]), 400),
    ] {
        let (found, answer) = client.post(PATH, &json!({ "source": source, "list_ids": lists }));
        assert_eq!(found, status, "{answer}");
    }
    assert_eq!(client.post(PATH, &json!({ "list_ids": [list] })).0, 400);
    assert_eq!(client.post(PATH, &json!({ "source": { "contact_ids": [id] } })).0, 400);
    let both = json!({ "source": { "contact_ids": [id] }, "exclude": { "contact_ids": [id] }, "list_ids": [list] });
    assert_eq!(client.post(PATH, &both).0, 400, "exclude goes with lists or all contacts");
}
