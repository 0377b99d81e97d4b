//! `/contact_lists`.

use super::*;

fn names(page: &Value) -> Vec<&str> {
    page["lists"].as_array().unwrap().iter().map(|list| list["name"].as_str().unwrap()).collect()
}

#[test]
fn a_list_is_created_once_and_read_back() {
    let mut client = Client::unlimited(VendorConfig::default());
    let (status, made) = client.post("/v3/contact_lists", &json!({ "name": "VIP", "description": "d", "favorite": true }));
    assert_eq!(status, 201);
    assert_eq!(
        (&made["name"], &made["description"], &made["favorite"], &made["created_at"]),
        (&json!("VIP"), &json!("d"), &json!(true), &json!("2023-11-14T22:13:20Z"))
    );
    let id = made["list_id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/v3/contact_lists/{id}")), (200, made.clone()));
    let (status, refusal) = client.post("/v3/contact_lists", &json!({ "name": "VIP" }));
    assert_eq!((status, service_error(&refusal).0), (409, "contacts.api.conflict"));
    for (body, expected) in [
        (json!({}), 400),
        (json!({ "name": "" }), 400),
        (json!({ "name": 7 }), 400),
        (json!({ "name": "n".repeat(256) }), 400),
        (json!({ "name": "ü".repeat(255) }), 201),
        (json!({ "name": "x", "favorite": "yes" }), 400),
        (json!({ "name": "x", "description": 7 }), 400),
        (json!({ "name": "vip" }), 201),
    ] {
        assert_eq!(client.post("/v3/contact_lists", &body).0, expected, "{body}");
    }
    assert_eq!(client.vendor.lists().len(), 3, "what was refused was not made");
}

#[test]
fn lists_are_found_by_name_and_counted() {
    let mut client = Client::unlimited(VendorConfig::default());
    let ids: Vec<ListId> = ["a", "ab", "A"].map(|name| client.vendor.plant_list(name)).to_vec();
    client.plant("in@example.com", ContactStatus::Active, &ids[..2]);
    client.plant("out@example.com", ContactStatus::Unsubscribed, &ids[..1]);
    for (query, expected) in [
        ("", vec!["a", "ab", "A"]),
        ("name=a", vec!["a"]),
        ("name=nothing", vec![]),
        ("status=active", vec!["a", "ab", "A"]),
        ("status=deleted", vec![]),
        ("channel_type=sms", vec![]),
    ] {
        let (status, page) = client.get(&format!("/v3/contact_lists?include_count=true&{query}"));
        assert_eq!((status, names(&page), &page["lists_count"]), (200, expected.clone(), &json!(expected.len())), "{query}");
    }
    for (kind, expected) in [("all", [2, 1, 0]), ("active", [1, 1, 0])] {
        let (_, page) = client.get(&format!("/v3/contact_lists?include_membership_count={kind}"));
        let counts: Vec<u64> =
            page["lists"].as_array().unwrap().iter().map(|list| list["membership_count"].as_u64().unwrap()).collect();
        assert_eq!(counts, expected);
        let (_, one) = client.get(&format!("/v3/contact_lists/{}?include_membership_count={kind}", ids[0]));
        assert_eq!(one["membership_count"], json!(expected[0]));
    }
    for query in ["include_membership_count=true", "status=gone", "limit=1001", "include_count=1"] {
        assert_eq!(client.get(&format!("/v3/contact_lists?{query}")).0, 400, "{query}");
    }
}

#[test]
fn an_account_has_a_thousand_lists_and_pages_through_them() {
    let mut client = Client::unlimited(VendorConfig::default());
    for number in 0..1_000 {
        assert_eq!(client.post("/v3/contact_lists", &json!({ "name": format!("{number:03}") })).0, 201);
    }
    assert_eq!(client.post("/v3/contact_lists", &json!({ "name": "one more" })).0, 400);
    for (limit, expected) in [("limit=1000", vec![1_000]), ("limit=400", vec![400, 400, 200]), ("", vec![50; 20])] {
        let found = pages(&mut client, &format!("/v3/contact_lists?{limit}"), "lists");
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected);
        assert!(found.concat().windows(2).all(|pair| pair[0]["name"].as_str() < pair[1]["name"].as_str()));
    }
}

#[test]
fn a_list_is_deleted_by_an_activity_and_is_not_found_any_more() {
    let mut client = Client::unlimited(VendorConfig::default());
    let ids: Vec<ListId> = ["a", "b"].map(|name| client.vendor.plant_list(name)).to_vec();
    client.plant("in@example.com", ContactStatus::Active, &ids);
    let path = format!("/v3/contact_lists/{}", ids[0]);
    let (status, fresh) = client.delete(&path);
    assert_eq!((status, &fresh["state"]), (202, &json!("initialized")));
    assert_eq!(client.get(&path).0, 200, "not yet");
    assert_eq!(client.post("/v3/contact_lists", &json!({ "name": "a" })).0, 409);
    // An import that is queued before it is gone changes its contacts alone: the model's choice.
    let (_, import) = client.import("x.csv", &ids[..1], b"email\nlate@example.com\n");
    assert_eq!(client.ended(&fresh)["state"], "completed");
    assert_eq!(client.ended(&import)["status"]["person_count"], 1);
    for (status, answer) in [client.delete(&path), client.import("x.csv", &ids[..1], b"email\nlate@example.com\n")] {
        assert_eq!((status, service_error(&answer).1), (400, "list_id not found"));
    }
    assert_eq!(client.get(&path).0, 404);
    let (_, page) = client.get("/v3/contact_lists");
    assert_eq!(names(&page), ["b"]);
    assert_eq!(client.vendor.list_members(ids[1]), ["in@example.com"], "its contacts stay contacts");
    assert_eq!(client.post("/v3/contact_lists", &json!({ "name": "a" })).0, 201, "the name is free again");
}
