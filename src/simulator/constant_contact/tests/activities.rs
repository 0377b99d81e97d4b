//! Activities: states over time, listings, endings.

use super::*;

const FILE: &[u8] = b"email\na@example.com\nb@example.com\nc@example.com\nd@example.com\n";

#[test]
fn an_activity_is_initialized_then_processing_then_completed() {
    let time = ActivityTime { queued_ms: 2_000, base_ms: 10_000, per_1000_rows_ms: 0, jitter_percent: 0 };
    for (execution, members_while_processing) in [(Execution::AtStart, 4), (Execution::AtEnd, 0)] {
        let (mut client, list) = with_list(VendorConfig { activity_ms: time, execution, ..VendorConfig::default() });
        let (_, fresh) = client.import("x.csv", &[list], FILE);
        let id = fresh["activity_id"].as_str().unwrap().to_owned();
        // As recorded: a fresh job is at one percent and has no times, errors or counts.
        assert_eq!(
            fresh,
            json!({
                "activity_id": id, "state": "initialized", "created_at": "2023-11-14T22:13:20Z", "updated_at": "2023-11-14T22:13:20Z",
                "percent_done": 1, "activity_errors": [], "status": {}, "source_file_name": "x.csv",
                "_links": { "self": { "href": format!("/v3/activities/{id}") } },
            })
        );
        for (at_ms, state, percent, started, completed, members) in [
            (1_999, "initialized", 1, None, None, 0),
            (2_000, "processing", 1, Some("2023-11-14T22:13:22Z"), None, members_while_processing),
            (7_000, "processing", 50, Some("2023-11-14T22:13:22Z"), None, members_while_processing),
            (12_000, "completed", 100, Some("2023-11-14T22:13:22Z"), Some("2023-11-14T22:13:32Z"), 4),
        ] {
            client.at_ms = at_ms;
            let (_, seen) = client.get(&format!("/v3/activities/{id}"));
            let times = ["started_at", "completed_at"].map(|name| seen.get(name).and_then(Value::as_str));
            assert_eq!((&seen["state"], &seen["percent_done"], times), (&json!(state), &json!(percent), [started, completed]));
            assert_eq!(seen["status"] == json!({}), state != "completed", "counts come with the end");
            assert_eq!(client.vendor.list_members(list).len(), members, "{execution:?} at {at_ms} ms");
        }
    }
}

#[test]
fn the_time_of_an_activity_grows_with_its_rows_and_one_may_wait_for_another() {
    let time = ActivityTime { queued_ms: 0, base_ms: 1_000, per_1000_rows_ms: 500, jitter_percent: 0 };
    let file: String =
        std::iter::once("email\n".to_owned()).chain((0..2_000).map(|number| format!("{number}@example.com\n"))).collect();
    for (serial, expected) in [(false, [0, 1, 1, 2, 2, 2]), (true, [0, 0, 0, 1, 1, 2])] {
        let (mut client, list) = with_list(VendorConfig { activity_ms: time, serial, ..VendorConfig::default() });
        client.import("large.csv", &[list], file.as_bytes());
        client.import("small.csv", &[list], b"email\na@example.com\n");
        let completed = [999, 1_000, 1_999, 2_000, 2_999, 3_000].map(|at_ms| {
            client.at_ms = at_ms;
            client.get("/v3/activities?state=completed").1["activities"].as_array().unwrap().len()
        });
        assert_eq!(completed, expected, "serial {serial}");
    }
}

#[test]
fn the_listing_is_newest_first_with_names_and_one_wrong_link() {
    let (mut client, list) = with_list(VendorConfig::default());
    for number in 0..7 {
        client.at_ms = number * 1_000;
        client.import(&format!("{number}.csv"), &[list], FILE);
    }
    client.post("/v3/activities/remove_list_memberships", &json!({ "source": { "list_ids": [list] }, "list_ids": [list] }));
    let names = |items: &[Value]| -> Vec<String> {
        items
            .iter()
            .map(|item| item.get("source_file_name").map_or_else(String::new, |name| name.as_str().unwrap().to_owned()))
            .collect()
    };
    let found = pages(&mut client, "/v3/activities?limit=3", "activities");
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
    assert_eq!(names(&found.concat()), ["", "6.csv", "5.csv", "4.csv", "3.csv", "2.csv", "1.csv", "0.csv"]);
    // As recorded from the real API: each item of a page links to the last one of it.
    for page in &found {
        let last = format!("/v3/activities/{}", page.last().unwrap()["activity_id"].as_str().unwrap());
        assert!(page.iter().all(|item| item["_links"]["self"]["href"] == last.as_str()));
    }
    // A page that was begun stays as it is when others come.
    let (_, first) = client.get("/v3/activities?limit=3");
    let next = first["_links"]["next"]["href"].as_str().unwrap().to_owned();
    client.import("7.csv", &[list], FILE);
    assert_eq!(names(&pages(&mut client, &next, "activities").concat()), ["4.csv", "3.csv", "2.csv", "1.csv", "0.csv"]);
    for query in ["limit=0", "limit=501", "state=initialized", "state=done", "source_file_name=x.csv"] {
        assert_eq!(client.get(&format!("/v3/activities?{query}")).0, 400, "{query}");
    }
    let (_, page) = client.get("/v3/activities?state=completed");
    assert_eq!(names(page["activities"].as_array().unwrap()), ["3.csv", "2.csv", "1.csv", "0.csv"], "two seconds each");
    client.at_ms += 60_000;
    assert_eq!(client.get("/v3/activities?state=completed&limit=500").1["activities"].as_array().unwrap().len(), 9);
    assert_eq!(client.get("/v3/activities?state=processing").1["activities"], json!([]));
}

#[test]
fn activities_are_kept_for_ten_days() {
    let (mut client, list) = with_list(VendorConfig::default());
    let (_, old) = client.import("old.csv", &[list], FILE);
    client.at_ms = 86_400_000;
    client.import("new.csv", &[list], FILE);
    let path = format!("/v3/activities/{}", old["activity_id"].as_str().unwrap());
    for (at_ms, status, kept) in [(864_000_000, 200, 2), (864_000_001, 404, 1)] {
        client.at_ms = at_ms;
        assert_eq!(client.get(&path).0, status);
        assert_eq!(client.get("/v3/activities").1["activities"].as_array().unwrap().len(), kept);
    }
    assert_eq!(client.vendor.report().activities_by_state, BTreeMap::from([("completed", 2)]), "the report counts all");
}

#[test]
fn activities_end_badly_as_often_as_they_are_told_to() {
    let none = BadEndings::default();
    for (bad_endings, state) in [
        (BadEndings { failed_percent: 100, ..none }, "failed"),
        (BadEndings { cancelled_percent: 100, ..none }, "cancelled"),
        (BadEndings { timed_out_percent: 100, ..none }, "timed_out"),
    ] {
        let (mut client, list) = with_list(VendorConfig { bad_endings, ..VendorConfig::default() });
        let (status, fresh) = client.import("x.csv", &[list], FILE);
        assert_eq!((status, &fresh["state"]), (201, &json!("initialized")), "a failure shows later");
        let ended = client.ended(&fresh);
        assert_eq!((&ended["state"], &ended["status"]["person_count"]), (&json!(state), &json!(0)));
        assert!(ended["completed_at"].is_string());
        assert!(client.vendor.list_members(list).is_empty());
        assert_eq!(client.get(&format!("/v3/activities?state={state}")).1["activities"].as_array().unwrap().len(), 1);
    }
    let (mut client, list) = with_list(VendorConfig {
        bad_endings: BadEndings { timed_out_percent: 100, ..none },
        instant: true,
        ..VendorConfig::default()
    });
    client.import("x.csv", &[list], FILE);
    assert_eq!(client.get("/v3/activities?state=time_out").1["activities"].as_array().unwrap().len(), 1, "the text's spelling");
}

#[test]
fn what_an_activity_did_before_it_ended_badly_stays() {
    let bad_endings = BadEndings { failed_percent: 30, cancelled_percent: 10, timed_out_percent: 10, done_percent_max: 100 };
    let run = |seed| {
        let (mut client, list) = with_list(VendorConfig { bad_endings, seed, ..VendorConfig::default() });
        let mut seen = Vec::new();
        for number in 0..200 {
            let file = format!("email\n{number}a@example.com\n{number}b@example.com\n{number}c@example.com\n");
            let before = client.vendor.list_members(list).len();
            let (_, fresh) = client.import("x.csv", &[list], file.as_bytes());
            let ended = client.ended(&fresh);
            let joined = client.vendor.list_members(list).len() - before;
            assert_eq!(ended["status"]["person_count"], json!(joined));
            let completed = ended["state"] == "completed";
            assert!(joined == 3 || !completed);
            seen.push((ended["state"].as_str().unwrap().to_owned(), joined));
        }
        seen
    };
    let seen = run(1);
    let count = |state: &str| seen.iter().filter(|(found, _)| found == state).count();
    let counts = ["completed", "failed", "cancelled", "timed_out"].map(count);
    for (found, expected) in counts.into_iter().zip([100, 60, 20, 20]) {
        assert!(found.abs_diff(expected) <= expected / 2, "{counts:?}");
    }
    assert!(seen.iter().any(|(state, joined)| state == "failed" && (1..3).contains(joined)), "some did a part");
    assert_eq!(run(1), seen, "by seed");
    assert_ne!(run(2), seen);
}
