//! `POST /activities/contacts_file_import`.

use super::*;

/// The counts of a completed import: items, persons, errors, correctable ones, those that may not join.
fn counts(activity: &Value) -> [u64; 5] {
    ["items_total_count", "person_count", "error_count", "correctable_count", "cannot_add_to_list_count"]
        .map(|name| activity["status"][name].as_u64().unwrap())
}

#[test]
fn an_import_ends_later_and_tells_what_it_did() {
    let (mut client, list) = with_list(VendorConfig::default());
    client.plant("out@example.com", ContactStatus::Unsubscribed, &[]);
    client.plant("gone@example.com", ContactStatus::Deleted, &[]);
    let file = b"email\na@example.com\nA@example.com\nnone\nout@example.com\ngone@example.com\n";
    let (status, fresh) = client.import("x.csv", &[list], file);
    assert_eq!((status, &fresh["state"]), (201, &json!("initialized")));
    assert!(client.vendor.list_members(list).is_empty());
    assert_eq!(client.vendor.activities_open()[0].contacts.len(), 4);
    let done = client.ended(&fresh);
    assert_eq!((&done["state"], &done["source_file_name"]), (&json!("completed"), &json!("x.csv")));
    assert_eq!(done["activity_errors"], json!(["Line 4: Invalid email"]));
    // The header counts as an item, two spellings of one address are one person.
    assert_eq!(counts(&done), [6, 3, 0, 1, 2]);
    assert_eq!(client.vendor.list_members(list), ["a@example.com"]);
    assert_eq!(client.vendor.contact("out@example.com").unwrap().0, ContactStatus::Unsubscribed);
    assert_eq!(client.vendor.contact("gone@example.com").unwrap().0, ContactStatus::Deleted);
}

#[test]
fn a_vendor_that_revives_deleted_contacts_still_lifts_no_opt_out() {
    let (mut client, list) = with_list(VendorConfig { import_revives_deleted: true, ..VendorConfig::default() });
    client.plant("out@example.com", ContactStatus::Unsubscribed, &[]);
    client.plant("gone@example.com", ContactStatus::Deleted, &[]);
    let (_, fresh) = client.import("x.csv", &[list], b"email\nout@example.com\ngone@example.com\n");
    assert_eq!(counts(&client.ended(&fresh)), [3, 2, 0, 0, 1]);
    assert_eq!(client.vendor.list_members(list), ["gone@example.com"]);
    let (_, page) = client.get("/v3/contacts?email=gone@example.com");
    assert!(page["contacts"][0].get("deleted_at").is_none());
}

#[test]
fn all_rows_join_all_lists_and_nothing_leaves_one() {
    let (mut client, list) = with_list(VendorConfig::default());
    let second = client.vendor.plant_list("M");
    client.plant("old@example.com", ContactStatus::Active, &[list]);
    let (_, fresh) = client.import("x.csv", &[list, second], b"email\na@example.com\n");
    client.ended(&fresh);
    assert_eq!(client.vendor.list_members(list), ["a@example.com", "old@example.com"]);
    assert_eq!(client.vendor.list_members(second), ["a@example.com"]);
}

#[test]
fn only_what_a_row_supplies_is_updated() {
    let (mut client, list) = with_list(VendorConfig { instant: true, ..VendorConfig::default() });
    let mut hash_after = |file: &[u8]| {
        assert_eq!(client.import("x.csv", &[list], file).0, 201);
        client.vendor.contact("a@example.com").unwrap().1
    };
    let ana = hash_after(b"email,first_name,cf:tier\na@example.com,Ana,\n");
    assert_ne!(ana, 0);
    assert_eq!(hash_after(b"email\na@example.com\n"), ana, "nothing supplied");
    assert_ne!(hash_after(b"email,last_name\na@example.com,Ana\n"), ana, "another column");
    assert_eq!(hash_after(b"email,first_name\na@example.com,Ana\n"), ana, "an empty value counts as none");
}

#[test]
fn above_four_megabytes_the_rest_is_dropped_without_a_word() {
    let row = |number: usize| format!("{number:07}@example.com,{}\n", "x".repeat(180));
    let header = "email,street\n";
    let fit = (4_000_000 - header.len()) / row(0).len();
    for (rows, kept) in [(fit, fit), (fit + 1, fit), (fit + 500, fit)] {
        let (mut client, list) = with_list(VendorConfig { instant: true, ..VendorConfig::default() });
        let file: String = std::iter::once(header.to_owned()).chain((0..rows).map(row)).collect();
        let (status, fresh) = client.import("x.csv", &[list], file.as_bytes());
        assert_eq!(status, 201);
        let done = client.ended(&fresh);
        assert_eq!(counts(&done), [kept as u64 + 1, kept as u64, 0, 0, 0], "{rows} rows");
        assert_eq!(done["activity_errors"], json!([]));
        assert_eq!(client.vendor.list_members(list).len(), kept);
    }
}

#[test]
fn a_file_has_at_most_forty_thousand_lines() {
    let file = |rows: usize| {
        let rows = (0..rows).map(|number| format!("{number}@example.com\n"));
        std::iter::once("email\n".to_owned()).chain(rows).collect::<String>()
    };
    for (surplus_lines, rows, status, kept) in [
        (SurplusLines::Refused, 39_999, 201, 39_999),
        (SurplusLines::Refused, 40_000, 400, 0),
        // The other way that the vendor's words can be meant.
        (SurplusLines::Dropped, 40_010, 201, 39_999),
    ] {
        let (mut client, list) = with_list(VendorConfig { instant: true, surplus_lines, ..VendorConfig::default() });
        assert_eq!(client.import("x.csv", &[list], file(rows).as_bytes()).0, status, "{rows}");
        assert_eq!(client.vendor.list_members(list).len(), kept);
    }
}

#[test]
fn bad_rows_are_counted_by_kind_and_told_by_line() {
    let (mut client, list) = with_list(VendorConfig::default());
    let long = "n".repeat(51);
    let file = format!(
        "email,first_name\na@example.com,Ana\nbroken\nb@example.com\nc@example.com,{long}\nno space@example.com,x\n\"d@example.com\",\"D, E\"\n,F\n"
    );
    let (_, fresh) = client.import("x.csv", &[list], file.as_bytes());
    let done = client.ended(&fresh);
    assert_eq!(counts(&done), [8, 2, 3, 2, 0]);
    let errors = [
        "Line 3: Wrong number of columns",
        "Line 4: Wrong number of columns",
        "Line 5: Value too long",
        "Line 6: Invalid email",
        "Line 8: Invalid email",
    ];
    assert_eq!(done["activity_errors"], json!(errors));
    assert_eq!(client.vendor.list_members(list), ["a@example.com", "d@example.com"]);
}

#[test]
fn activity_errors_may_be_cut_short() {
    let (mut client, list) = with_list(VendorConfig { activity_errors_max: 2, ..VendorConfig::default() });
    let (_, fresh) = client.import("x.csv", &[list], b"email\na\nb\nc\nd\n");
    let done = client.ended(&fresh);
    assert_eq!((counts(&done)[3], done["activity_errors"].as_array().unwrap().len()), (4, 2));
}

#[test]
fn a_contact_is_on_at_most_fifty_lists() {
    let mut client = Client::unlimited(VendorConfig { instant: true, ..VendorConfig::default() });
    let lists: Vec<ListId> = (0..51).map(|number| client.vendor.plant_list(&format!("L{number}"))).collect();
    let row = b"email\na@example.com\n";
    assert_eq!(client.import("x.csv", &lists[..50], row).0, 201);
    let (status, fresh) = client.import("y.csv", &lists[50..], row);
    assert_eq!(status, 201);
    let done = client.ended(&fresh);
    assert_eq!((counts(&done), &done["activity_errors"]), ([2, 1, 1, 0, 0], &json!(["Line 2: Contact is on 50 lists"])));
    assert!(client.vendor.list_members(lists[50]).is_empty());
    assert_eq!(client.import("z.csv", &lists, row).0, 400, "list_ids has at most 50 values");
}

#[test]
fn requests_that_are_no_import_are_refused_at_once() {
    let (mut client, list) = with_list(VendorConfig::default());
    let list = list.to_string();
    let none = "04fe9a97-a579-43c5-bb1a-58ed29bf0a6a";
    let custom: String = (0..26).map(|number| format!(",cf:c{number}")).collect();
    for (name, lists, file, status) in [
        ("x.txt", list.as_str(), "email\na@example.com\n", 415),
        (".csv", &list, "email\na@example.com\n", 415),
        ("x.csv", "", "email\na@example.com\n", 400),
        ("x.csv", none, "email\na@example.com\n", 400),
        ("x.csv", "L", "email\na@example.com\n", 400),
        ("x.csv", &list, "", 400),
        ("x.csv", &list, "email\n", 400),
        ("x.csv", &list, "address\na@example.com\n", 400),
        ("x.csv", &list, "email,email\na@example.com,b@example.com\n", 400),
        ("x.csv", &list, &format!("email{custom}\n"), 400),
        ("x.csv", &list, "\u{feff}email\na@example.com\n", 201),
        ("X.CSV", &list, "email\r\na@example.com\r\n", 201),
    ] {
        let (found, answer) = client.import_form(name, lists, file.as_bytes());
        assert_eq!(found, status, "{name} {lists} {file:?}: {answer}");
    }
    let headers = [("authorization", "Bearer t"), ("content-type", "application/json")];
    assert_eq!(client.send("POST", "/v3/activities/contacts_file_import", &headers, "{}").0, 415);
    assert_eq!(client.vendor.report().activities_by_state, BTreeMap::from([("initialized", 2)]));
}
