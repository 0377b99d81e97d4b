//! What the simulator tells about itself, and what can be planted.

use super::*;

#[test]
fn the_report_has_these_keys_and_no_other() {
    let mut client = Client::new(VendorConfig { calls_per_second: Some(3), instant: true, ..VendorConfig::default() });
    let list = client.vendor.plant_list("L");
    client.import("x.csv", &[list], b"email\na@example.com\n");
    client.get("/v3/activities");
    client.get("/v3/nothing");
    client.get("/v3/contacts?email=a@example.com");
    let report = serde_json::to_value(client.vendor.report()).unwrap();
    assert_eq!(
        report,
        json!({
            "requests": 4,
            "requests_by_kind": { "import": 1, "poll": 1, "other": 1, "look_up": 1 },
            "max_in_a_second": 4,
            "requests_by_day": { "2023-11-14": 4 },
            "violations": [{
                "rule": "calls_per_second", "at": BASE.0, "detail": "GET /v3/contacts: after 3 in the second before it",
            }],
            "activities_by_state": { "completed": 1 },
            "contacts": 1,
            "lists": [{ "list_id": list, "name": "L", "members": 1 }],
        })
    );
}

#[test]
fn each_kind_of_request_is_told_apart() {
    let (mut client, list) = with_list(VendorConfig::default());
    client.get(&format!("/v3/contacts?lists={list}&limit=500"));
    client.get("/v3/contacts?status=deleted,unsubscribed&updated_after=2023-11-14T00:00:00Z");
    client.get("/v3/contacts/counts");
    client.get("/v3/contact_lists");
    client.post("/v3/contact_lists", &json!({ "name": "x" }));
    client.post("/v3/activities/remove_list_memberships", &json!({ "source": { "list_ids": [list] }, "list_ids": [list] }));
    client.send("POST", "/oauth2/token", &[], "");
    let kinds = client.vendor.report().requests_by_kind;
    let expected = [("counts", 1), ("lists", 2), ("remove", 1), ("scan", 1), ("suppression", 1), ("token", 1)];
    assert_eq!(kinds, BTreeMap::from(expected));
}

#[test]
fn contacts_are_planted_in_any_state_and_moved_to_another() {
    let (mut client, list) = with_list(VendorConfig::default());
    let plant = |client: &mut Client, address: &str, status| {
        client.vendor.plant_contact(&PlantedContact { address: Text::new(address), status, lists: vec![list] })
    };
    assert!(plant(&mut client, " A@Example.com ", ContactStatus::Active));
    assert!(!plant(&mut client, "nobody", ContactStatus::Active));
    assert_eq!(client.vendor.list_members(list), ["a@example.com"]);
    // Unsubscribing keeps memberships, deleting strips them (both said by the vendor's staff).
    for (status, members) in [(ContactStatus::Unsubscribed, 1), (ContactStatus::Deleted, 0), (ContactStatus::Active, 1)] {
        assert!(plant(&mut client, "a@example.com", status));
        assert_eq!(client.vendor.contact("a@example.com").unwrap().0, status);
        assert_eq!(client.vendor.list_members(list).len(), members, "{status:?}");
    }
    assert_eq!(client.vendor.report().contacts_by_status, BTreeMap::from([("active", 1), ("deleted", 0), ("unsubscribed", 0)]));
    for number in 0..49 {
        let more = client.vendor.plant_list(&format!("{number}"));
        client.vendor.plant_contact(&PlantedContact {
            address: "a@example.com".into(),
            status: ContactStatus::Active,
            lists: vec![more],
        });
    }
    let last = client.vendor.plant_list("one too many");
    let planted = PlantedContact { address: "a@example.com".into(), status: ContactStatus::Active, lists: vec![last] };
    assert!(!client.vendor.plant_contact(&planted), "fifty lists a contact");
}
