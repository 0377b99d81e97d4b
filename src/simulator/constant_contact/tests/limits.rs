//! Requests a second and a day, by API key.

use super::*;

const TO_MIDNIGHT_MS: i64 = 86_400_000 - 1_700_000_000_000 % 86_400_000;

#[test]
fn four_requests_fit_into_any_second() {
    let mut client = Client::new(VendorConfig::default());
    for (at_ms, expected) in
        [(0, 200), (0, 200), (300, 200), (999, 200), (999, 429), (1_000, 200), (1_001, 200), (1_299, 429), (1_300, 200)]
    {
        client.at_ms = at_ms;
        let (status, _, body) = client.send("GET", "/v3/contacts", &[("authorization", "Bearer t")], "");
        assert_eq!(status, expected, "at {at_ms} ms");
        if status == 429 {
            assert_eq!(body, Bytes::from("{\"error_key\":\"throttled\",\"error_message\":\"Too Many Requests\"}\n"));
        }
    }
    let report = client.vendor.report();
    let rules: Vec<(&str, i64)> = report.violations.iter().map(|violation| (violation.rule, violation.at.0 - BASE.0)).collect();
    assert_eq!(rules, [("calls_per_second", 999), ("calls_per_second", 1_299)]);
}

#[test]
fn a_day_of_utc_has_ten_thousand_requests_and_midnight_opens_the_next() {
    let mut client = Client::new(VendorConfig { calls_per_second: None, ..VendorConfig::default() });
    client.at_ms = TO_MIDNIGHT_MS - 1;
    for _ in 0..10_000 {
        assert_eq!(client.get("/v3/contacts").0, 200);
    }
    let (status, refusal) = client.get("/v3/contacts");
    assert_eq!((status, refusal), (429, json!({ "error_key": "quota_exceeded", "error_message": "Limit Exceeded" })));
    client.at_ms = TO_MIDNIGHT_MS;
    assert_eq!(client.get("/v3/contacts").0, 200);
    let report = client.vendor.report();
    let days: Vec<(&str, u64)> = report.requests_by_day.iter().map(|(day, count)| (day.as_str(), *count)).collect();
    assert_eq!(days, [("2023-11-14", 10_001), ("2023-11-15", 1)]);
    assert_eq!(report.violations_count, 1);
}

#[test]
fn the_limits_belong_to_the_key_that_the_token_was_issued_for() {
    let client_of = |name: &str| OauthClient {
        client_id: name.to_owned(),
        client_secret: "s".to_owned(),
        refresh_token: format!("refresh-{name}"),
    };
    let config = VendorConfig { oauth_clients: vec![client_of("a"), client_of("b")], ..VendorConfig::default() };
    let mut client = Client::new(config);
    let tokens = ["a", "b"].map(|name| {
        let form = format!("grant_type=refresh_token&refresh_token=refresh-{name}&client_id={name}&client_secret=s");
        let (status, _, body) = client.send("POST", "/oauth2/token", &[], form);
        assert_eq!(status, 200, "the token endpoint's second belongs to the key too");
        let body: Value = serde_json::from_slice(&body).unwrap();
        format!("Bearer {}", body["access_token"].as_str().unwrap())
    });
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(tokens.each_ref().map(|token| client.send("GET", "/v3/contacts", &[("authorization", token)], "").0));
    }
    assert_eq!(statuses, [[200, 200], [200, 200], [200, 200], [200, 200], [429, 429]]);
}

#[test]
fn a_thousand_queued_activities_fill_the_account() {
    let (mut client, list) = with_list(VendorConfig::default());
    for number in 0..1_000 {
        assert_eq!(client.import(&format!("{number}.csv"), &[list], b"email\na@example.com\n").0, 201);
    }
    let (status, refusal) = client.import("more.csv", &[list], b"email\na@example.com\n");
    assert_eq!(status, 429);
    let text = "Too many requests. You exceeded 1,000 queued activities for this user account.";
    assert_eq!(service_error(&refusal).1, text);
    client.at_ms = 600_000;
    assert_eq!(client.import("more.csv", &[list], b"email\na@example.com\n").0, 201, "they have ended");
}
