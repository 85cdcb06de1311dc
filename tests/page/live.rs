//! What the page shows of a real collector, as it goes on.

use std::time::Duration;

use serde_json::json;

use crate::support::{Beat, Beats, Browser, Buffer, Metrics, QUICK_LEASE, SOON, Systole, World, beats, wait};

fn open(page: &Browser, door: &Systole) {
    page.open(&format!("{}/", door.url()));
}

/// The sum of one column of the buffer's ledger.
fn ledger(metrics: &Metrics, column: &str) -> Option<f64> {
    metrics.sum_where("systole_buffer_ledger_heartbeats", |labels| labels["column"] == column)
}

#[test]
fn the_numbers_on_the_page_are_those_of_the_metrics() {
    let Some(page) = Browser::start_or_skip("the numbers on the page") else { return };
    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    world.address_is(&up);
    let client = world.client(&up);
    let beats = Beats::new(9, 2);
    beats.take(57).chunks(19).for_each(|some| client.must_keep(some));
    let half = json!([beats.next().json(), {"user_id": "nobody"}, {"user_id": "nobody", "typo": 1}]);
    assert_eq!(client.post_raw("application/json", half.to_string()).status, 202);
    wait::until("every row to be published", SOON, || {
        up.metrics().sum("systole_compactor_rows_published_total") == Some(58.0)
    });

    open(&page, &up);
    wait::value("the numbers of the metrics", 2 * SOON, || {
        let metrics = up.metrics();
        let wanted = [
            ("in-accepted", metrics.sum("systole_heartbeats_accepted_total")),
            ("in-refused", metrics.sum("systole_heartbeats_rejected_total")),
            ("buffer-waiting", Some(ledger(&metrics, "pending").unwrap() + ledger(&metrics, "claimed").unwrap())),
            ("batchers-alive", metrics.sum("systole_batchers_alive")),
            ("staging-fragments", metrics.sum("systole_compactor_staged_fragments")),
            ("published-rows", metrics.sum("systole_compactor_rows_published_total")),
            ("quarantined", metrics.sum("systole_compactor_quarantined_fragments")),
            ("book-accepted", ledger(&metrics, "accepted")),
            ("book-pending", ledger(&metrics, "pending")),
            ("book-claimed", ledger(&metrics, "claimed")),
            ("book-acked", ledger(&metrics, "acked")),
            ("book-dead", ledger(&metrics, "dead")),
            ("book-dropped", ledger(&metrics, "dropped")),
            ("book-merged", metrics.sum("systole_compactor_rows_published_total")),
        ];
        for (id, wanted) in wanted {
            let shown = page.number(id);
            if shown != wanted || wanted.is_none() {
                return Err(format!("{id} is {shown:?}, in the metrics {wanted:?}"));
            }
        }
        Ok(())
    });
    assert_eq!(page.number("in-accepted"), Some(58.0));
    assert_eq!(page.text("#in-accepted"), "58");
    assert!(page.text("#refused").contains("missing field 1"), "{}", page.text("#refused"));
    assert_eq!(page.run("return document.querySelectorAll('#partitions tbody tr').length"), 4);
    assert_eq!(page.text("#verdict-text"), "All is well");
    assert!(page.text("#publishes tbody").contains("now") || page.text("#publishes tbody").contains(" ago"));
    page.finish(&[]);
    up.stop();
}

#[test]
fn a_dead_batcher_a_dead_letter_and_a_silent_device_are_seen() {
    let Some(page) = Browser::start_or_skip("what goes wrong, on the page") else { return };
    let world = World::on(Buffer::Redis);
    let mut doomed = world.batch().args(QUICK_LEASE).failpoints("batcher.encode=panic").start();
    let serve = world.serve().args(["--batcher-ttl=800ms"]).start();
    serve.await_status("/health/ready", 200, SOON);
    open(&page, &serve);
    page.await_text("#batchers tbody", &["alive", "0–3"]);

    // Its writer fails over every row. The device beat ten minutes ago, and not since.
    let ten_minutes_ago = beats::now_ms() - 600_000;
    world.client(&serve).must_keep(&[Beat::at("ada", "<b>an old phone</b>", ten_minutes_ago)]);
    let letter = page.await_text("#letters tbody", &["panic", " 1 "]);
    assert_eq!(page.number("book-dead"), Some(1.0), "{letter}");
    page.await_text("#problems", &["Dead letters", "1 heartbeat could not be written", "systole dead-letters list"]);
    page.await_text("#silent tbody", &["ada", "<b>an old phone</b>", "10 min ago"]);

    doomed.sigkill();
    page.await_text("#batchers tbody", &["gone"]);
    page.await_text("#problems", &["Batchers", "log"]);
    assert_eq!(page.number("batchers-alive"), Some(0.0));
    assert_eq!(page.text("#flag-batchers"), "▲ none alive");

    let heir = world.batch().args(QUICK_LEASE).start();
    page.await_text("#stage-batchers", &["1 alive", "4 of 4 partitions"]);
    page.finish(&[]);
    serve.stop();
    heir.stop();
}

#[test]
fn a_full_buffer_is_seen_and_by_which_partition() {
    let Some(page) = Browser::start_or_skip("a full buffer, on the page") else { return };
    let world = World::on(Buffer::Redis);
    world.register();
    let serve = world.serve().args(["--buffer-max-heartbeats=40"]).start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    let beats = Beats::new(1, 1);
    let kept = (0..11).filter(|_| client.post(&beats.next()).status == 202).count();
    assert_eq!(kept, 10, "a quarter of the cap");
    open(&page, &serve);
    page.await_text("#partitions tbody", &["100%, full"]);
    page.await_text("#flag-buffer", &["1 of 4 full"]);
    page.await_text("#refused", &["buffer", "1"]);
    assert_eq!(page.number("buffer-waiting"), Some(10.0));
    assert_ne!(page.run("return document.querySelector('#verdict').dataset.look"), "well");
    assert!(page.text("#files-note").contains("not seen from here"));
    page.finish(&[]);
    serve.stop();
}

#[test]
fn what_a_buffer_held_before_it_went_away_is_not_shown_as_present() {
    let Some(page) = Browser::start_or_skip("a buffer that went away, on the page") else { return };
    let mut world = World::on(Buffer::Redis);
    let (serve, batch) = world.serve_and_batch();
    world.client(&serve).must_keep(&Beats::new(3, 1).take(9));
    world.await_drained(SOON);
    open(&page, &serve);
    page.await_text("#verdict-more", &["Nothing waits."]);
    page.await_text("#stage-batchers", &["4 of 4 partitions"]);
    world.redis_mut().kill();
    let said = page.await_text("#verdict-more", &["what waits is not known since"]);
    assert!(!said.contains("Nothing waits"), "{said}");
    page.await_text("#flag-batchers", &["as of", "ago"]);
    assert!(!page.text("#stage-batchers").contains("4 of 4") && !page.text("#stage-buffer").contains("nothing waits"));
    page.finish(&[]);
    drop((serve, batch));
}

#[test]
fn a_token_logs_in_to_the_page_and_out_again() {
    let Some(page) = Browser::start_or_skip("the login of the page") else { return };
    let world = World::on(Buffer::Embedded);
    let create = |words: &[&str]| {
        let made = world.books(&[&["token", "create", "--json", "--partitions=4"], words].concat());
        made.run().expect_code(0).json()["token"].as_str().unwrap().to_owned()
    };
    let (admin, writer) = (create(&["--scope=admin"]), create(&["--scope=write", "--all-users"]));
    let up = world.up().start();
    let log_in = |token: &str| {
        page.run("document.querySelector('#token').value = ''");
        page.type_into("#token", token);
        page.click("#login button");
    };
    let shown = |id: &str| page.run(&format!("return document.querySelector('#{id}').checkVisibility()"));

    open(&page, &up);
    page.await_text("#verdict-text", &["Log in"]);
    assert_eq!((shown("content"), shown("logout")), (json!(false), json!(false)));
    assert_eq!(page.run("return document.activeElement.id"), "token");
    log_in("nonsense");
    page.await_text("#login-fault", &["not known here"]);
    log_in(&writer);
    page.await_text("#login-fault", &["admin"]);
    log_in(&admin);
    page.await_text("#verdict-text", &["All is well"]);
    assert_eq!((shown("login"), shown("logout")), (json!(false), json!(true)));

    // It outlives the page, and no script sees it.
    open(&page, &up);
    page.await_text("#verdict-text", &["All is well"]);
    assert_eq!(page.run("return document.cookie"), "");
    let kept = page.run("return JSON.stringify(localStorage) + JSON.stringify(sessionStorage)");
    assert!(!kept.as_str().unwrap().contains(&admin), "{kept}");
    page.click("#logout");
    page.await_text("#verdict-text", &["Log in"]);
    assert_eq!(shown("content"), false);
    open(&page, &up);
    page.await_text("#verdict-text", &["Log in"]);
    page.finish(&["status of 401", "status of 403"]);
    up.stop();
}

#[test]
fn a_collector_that_died_is_not_shown_as_well() {
    let Some(page) = Browser::start_or_skip("the page of a collector that died") else { return };
    let world = World::on(Buffer::Embedded);
    let mut up = world.up().start();
    open(&page, &up);
    page.await_text("#verdict-text", &["All is well"]);
    up.sigkill();
    page.await_text("#verdict-text", &["No answer since"]);
    assert_eq!(page.run("return document.documentElement.dataset.state"), "stale");
    wait::holds_for("saying so", Duration::from_secs(3), || {
        let said = page.text("#verdict-text");
        if said.starts_with("No answer since") { Ok(()) } else { Err(said) }
    });
    page.finish(&["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]);
}
