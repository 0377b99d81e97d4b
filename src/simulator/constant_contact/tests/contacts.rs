//! `GET /contacts` and `GET /contacts/{contact_id}`.

use super::*;

fn state_of(contact: &Value) -> (Option<&str>, bool, bool) {
    let email = &contact["email_address"];
    (email["permission_to_send"].as_str(), email.get("opt_out_date").is_some(), contact.get("deleted_at").is_some())
}

/// Five contacts, each planted a minute after the one before, and two lists.
fn account() -> (Client, [ListId; 2]) {
    let mut client = Client::unlimited(VendorConfig::default());
    let lists = ["L", "M"].map(|name| client.vendor.plant_list(name));
    let [l, m] = lists;
    for (minute, address, status, on) in [
        (0, "a@example.com", ContactStatus::Active, vec![l]),
        (1, "b@example.com", ContactStatus::Active, vec![l, m]),
        (2, "out@example.com", ContactStatus::Unsubscribed, vec![m]),
        (3, "gone@example.com", ContactStatus::Deleted, vec![]),
        (4, "c+d@example.com", ContactStatus::Active, vec![]),
    ] {
        client.at_ms = minute * 60_000;
        client.plant(address, status, &on);
    }
    client.at_ms = 3_600_000;
    (client, lists)
}

#[test]
fn each_filter_takes_what_it_says() {
    let (mut client, [l, m]) = account();
    let (all, a, b, out, gone, c) = (
        ["a@example.com", "b@example.com", "out@example.com", "c+d@example.com"],
        "a@example.com",
        "b@example.com",
        "out@example.com",
        "gone@example.com",
        "c+d@example.com",
    );
    let table: Vec<(String, Vec<&str>)> = vec![
        (String::new(), all.to_vec()),
        ("status=all".to_owned(), vec![a, b, out, gone, c]),
        ("status=active".to_owned(), vec![a, b, c]),
        ("status=deleted,unsubscribed".to_owned(), vec![out, gone]),
        ("status=deleted&status=active".to_owned(), vec![a, b, gone, c]),
        ("status=temp_hold,not_set,pending_confirmation".to_owned(), vec![]),
        ("email=B@Example.com".to_owned(), vec![b]),
        ("email=c%2Bd@example.com".to_owned(), vec![c]),
        ("email=gone@example.com".to_owned(), vec![]),
        ("email=gone@example.com&status=all".to_owned(), vec![gone]),
        ("email=nobody@example.com".to_owned(), vec![]),
        ("email=no%20address".to_owned(), vec![]),
        (format!("lists={l}"), vec![a, b]),
        (format!("lists={l},{m}"), vec![a, b, out]),
        (format!("lists={m}&status=active"), vec![b]),
        (format!("lists={m}&email=a@example.com"), vec![]),
        ("lists=04fe9a97-a579-43c5-bb1a-58ed29bf0a6a".to_owned(), vec![]),
        ("updated_after=2023-11-14T22:15:20Z&status=all".to_owned(), vec![out, gone, c]),
        ("updated_before=2023-11-14T22:14:20Z".to_owned(), vec![a, b]),
        ("created_after=2023-11-14T22:14:21%2B00:00".to_owned(), vec![out, c]),
        ("created_before=2023-11-14T22:14:19.999Z".to_owned(), vec![a]),
        ("optout_after=2023-11-14T22:15:20Z&status=all".to_owned(), vec![out, gone]),
        ("optout_before=2023-11-14T22:15:20Z".to_owned(), vec![out]),
        ("sms_status=all".to_owned(), all.to_vec()),
        ("sms_status=explicit".to_owned(), vec![]),
        ("tags=fa85f645-5717-4562-b3fc-2c963f66afa6".to_owned(), vec![]),
    ];
    for (query, expected) in table {
        let (status, page) = client.get(&format!("/v3/contacts?include_count=true&{query}"));
        assert_eq!((status, addresses(&page)), (200, expected.clone()), "{query}");
        assert_eq!(page["contacts_count"], json!(expected.len()), "{query}");
    }
    assert!(client.get("/v3/contacts").1.get("contacts_count").is_none());
}

#[test]
fn what_a_filter_cannot_mean_is_refused() {
    let (mut client, [l, _]) = account();
    let lists = vec![l.to_string(); 26].join(",");
    for query in [
        "status=gone",
        "limit=0",
        "limit=501",
        "limit=ten",
        "lists=L",
        &format!("lists={lists}"),
        "updated_after=yesterday",
        "include=everything",
        "include_count=yes",
        "sms_status=maybe",
        "cursor=!",
        "cursor=bmV4dD03",
        "segment_id=14",
    ] {
        let (status, refusal) = client.get(&format!("/v3/contacts?{query}"));
        assert_eq!((status, service_error(&refusal).0), (400, "contacts.api.validation.error"), "{query}");
    }
}

#[test]
fn a_contact_shows_its_state_and_its_lists_when_asked() {
    let (mut client, [l, m]) = account();
    let (_, page) = client.get("/v3/contacts?status=all&include=list_memberships");
    let contacts = page["contacts"].as_array().unwrap();
    let states: Vec<_> = contacts.iter().map(state_of).collect();
    let (active, out, gone) =
        ((Some("implicit"), false, false), (Some("unsubscribed"), true, false), (Some("implicit"), true, true));
    assert_eq!(states, [active, active, out, gone, active]);
    let lists: Vec<&Value> = contacts.iter().map(|contact| &contact["list_memberships"]).collect();
    assert_eq!(lists, [&json!([l]), &json!([l, m]), &json!([m]), &json!([]), &json!([])]);
    for contact in contacts {
        let id = contact["contact_id"].as_str().unwrap();
        assert_eq!(client.get(&format!("/v3/contacts/{id}?include=list_memberships")), (200, contact.clone()));
        let (_, plain) = client.get(&format!("/v3/contacts/{id}"));
        assert!(plain.get("list_memberships").is_none(), "nothing is included by default");
    }
    assert_eq!(contacts[2]["email_address"]["opt_out_date"], "2023-11-14T22:15:20Z");
    assert_eq!(contacts[3]["deleted_at"], "2023-11-14T22:16:20Z");
    // A later import is no later opt-out.
    let (_, fresh) = client.import("x.csv", &[l], b"email,first_name\nout@example.com,Otto\n");
    client.ended(&fresh);
    let (_, page) = client.get("/v3/contacts?email=out@example.com");
    assert_eq!(page["contacts"][0]["email_address"]["opt_out_date"], "2023-11-14T22:15:20Z");
}

#[test]
fn contacts_are_counted_by_their_consent() {
    let (mut client, [l, _]) = account();
    let counts =
        |implicit: u64| json!({ "total": implicit + 1, "explicit": 0, "implicit": implicit, "pending": 0, "unsubscribed": 1 });
    assert_eq!(client.get("/v3/contacts/counts"), (200, counts(3)), "the deleted one is no contact");
    let (_, queued) = client.import("x.csv", &[l], b"email\na@example.com\nnew@example.com\n");
    client.ended(&queued);
    client.at_ms += 31 * 86_400_000;
    client.plant("newer@example.com", ContactStatus::Active, &[]);
    let (_, with_new) = client.get("/v3/contacts/counts?include=new_subscriber");
    assert_eq!((&with_new["implicit"], &with_new["new_subscriber"]), (&json!(5), &json!(1)));
    for query in ["include=all", "limit=1"] {
        let (status, refusal) = client.get(&format!("/v3/contacts/counts?{query}"));
        assert_eq!((status, service_error(&refusal).0), (400, "contacts.api.validation.error"), "{query}");
    }
}

/// The index that lags (the model's own choice) does not count a new contact either.
#[test]
fn a_contact_is_counted_once_the_index_shows_it() {
    let (mut client, list) = with_list(VendorConfig { index_lag_s: 60, instant: true, ..VendorConfig::default() });
    client.import("x.csv", &[list], b"email\na@example.com\n");
    let total = |client: &mut Client| client.get("/v3/contacts/counts").1["total"].clone();
    assert_eq!(total(&mut client), 0);
    client.at_ms += 60_000;
    assert_eq!(total(&mut client), 1);
}

/// Each contact once, in one order, though others come and go meanwhile.
#[test]
fn pages_are_stable() {
    let (mut client, list) = with_list(VendorConfig { instant: true, ..VendorConfig::default() });
    let file: String =
        std::iter::once("email\n".to_owned()).chain((0..1_203).map(|number| format!("{number:04}@example.com\n"))).collect();
    client.import("x.csv", &[list], file.as_bytes());
    for (limit, sizes) in [("", vec![50; 24]), ("&limit=500", vec![500, 500])] {
        let found = pages(&mut client, &format!("/v3/contacts?lists={list}{limit}"), "contacts");
        let last = 1_203 - sizes.iter().sum::<usize>();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [sizes, vec![last]].concat());
        let all: Vec<String> =
            found.concat().iter().map(|contact| contact["email_address"]["address"].as_str().unwrap().to_owned()).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "one order");
    }
    let (_, first) = client.get(&format!("/v3/contacts?lists={list}&limit=500&status=active"));
    let next = first["_links"]["next"]["href"].as_str().unwrap().to_owned();
    assert!(next.starts_with("/v3/contacts?cursor="), "{next}");
    let begins = query::decode_base64(next.split_once('=').unwrap().1.trim_end_matches("%3D")).unwrap();
    assert!(begins.starts_with(b"limit=500&next="), "as recorded: the limit rides in the cursor");
    // The first page's contacts leave, also the one that the next page begins with; others join.
    let ids: Vec<&Value> = first["contacts"].as_array().unwrap().iter().map(|contact| &contact["contact_id"]).collect();
    let removal = json!({ "source": { "contact_ids": ids }, "list_ids": [list] });
    assert_eq!(client.post("/v3/activities/remove_list_memberships", &removal).0, 201);
    let (_, beginning) = client.get("/v3/contacts?email=0500@example.com");
    let removal = json!({ "source": { "contact_ids": [beginning["contacts"][0]["contact_id"]] }, "list_ids": [list] });
    assert_eq!(client.post("/v3/activities/remove_list_memberships", &removal).0, 201);
    client.import("y.csv", &[list], b"email\nzz@example.com\n");
    let rest = pages(&mut client, &next, "contacts").concat();
    let rest: Vec<&str> = rest.iter().map(|contact| contact["email_address"]["address"].as_str().unwrap()).collect();
    assert_eq!((rest.len(), rest[0], rest[702]), (703, "0501@example.com", "zz@example.com"));
}
