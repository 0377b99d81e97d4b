//! Requests against the model, as a client would make them.

use super::*;

const BASE: UnixMillis = UnixMillis(1_700_000_000_000);

fn call(vendor: &mut Vendor, at_ms: i64, method: &str, path: &str, media: &str, body: &str) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", "Bearer t")
        .header("content-type", media)
        .body(Bytes::from(body.to_owned()))
        .unwrap();
    let response = vendor.handle(BASE.plus_ms(at_ms), &request);
    assert!(response.headers().contains_key("date"));
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
}

fn import(vendor: &mut Vendor, at_ms: i64, list: ListId, file: &str) -> (u16, Value) {
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.csv\"\r\n\r\n{file}\r\n--b\r\n\
         Content-Disposition: form-data; name=\"list_ids\"\r\n\r\n{list}\r\n--b--\r\n"
    );
    call(vendor, at_ms, "POST", "/v3/activities/contacts_file_import", "multipart/form-data; boundary=b", &body)
}

#[test]
fn an_import_ends_later_and_tells_what_it_did() {
    let mut vendor = Vendor::new(VendorConfig::default(), BASE);
    let list = vendor.plant_list("L");
    for (address, status) in [("out@example.com", ContactStatus::Unsubscribed), ("gone@example.com", ContactStatus::Deleted)] {
        assert!(vendor.plant_contact(&PlantedContact { address: Text::new(address), status, lists: Vec::new() }));
    }
    let file = "email\na@example.com\nA@example.com\nnone\nout@example.com\ngone@example.com\n";
    let (status, fresh) = import(&mut vendor, 0, list, file);
    assert_eq!((status, &fresh["state"]), (201, &Value::from("initialized")));
    assert!(vendor.list_members(list).is_empty());
    assert_eq!(vendor.activities_open()[0].contacts.len(), 4);
    let path = format!("/v3/activities/{}", fresh["activity_id"].as_str().unwrap());
    let (_, done) = call(&mut vendor, 10_000, "GET", &path, "", "");
    assert_eq!(done["state"], "completed");
    assert_eq!(done["source_file_name"], "x.csv");
    assert_eq!(done["activity_errors"][0], "Line 4: Invalid email");
    let expected = serde_json::json!({
        "items_total_count": 6, "person_count": 3, "error_count": 0, "correctable_count": 1, "cannot_add_to_list_count": 2,
    });
    assert_eq!(done["status"], expected);
    assert_eq!(vendor.list_members(list), ["a@example.com"]);
}

#[test]
fn a_fifth_call_in_a_second_is_a_violation() {
    let mut vendor = Vendor::new(VendorConfig::default(), BASE);
    let statuses: Vec<u16> = (0..5).map(|at| call(&mut vendor, at, "GET", "/v3/contacts", "", "").0).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    assert_eq!(vendor.report().violations[0].rule, "calls_per_second");
}
