//! What the processes of every role really expose.

use super::support::tls::{Authority, PemFiles};
use super::support::{Beats, Buffer, Metrics, SOON, World, wait};

/// One scrape of each: serve with a spill and a rule about silence, batch, another batch that waits for its registration, compact; and up with TLS.
pub fn scrapes() -> Vec<Metrics> {
    let mut scrapes = of_all_apart();
    scrapes.push(of_all_in_one());
    scrapes
}

fn of_all_apart() -> Vec<Metrics> {
    let world = World::on(Buffer::Redis);
    let home = world.dataset().parent().unwrap().to_owned();
    let (batch, watch) = (world.batch().start(), world.watch().start());
    let settings = home.join("serve.toml");
    let rule = "[[silence]]\nmatch = \"*\"\nafter = \"5m\"\nwebhook = \"http://127.0.0.1:9/hook\"\n";
    std::fs::write(&settings, rule).unwrap();
    let spill = [format!("--spill-dir={}", home.join("spill").display()), "--spill-after=500ms".to_owned()];
    let serve = world.serve().args(spill).args([format!("--config={}", settings.display())]).start();
    serve.await_status("/health/ready", 200, SOON);
    world.client(&serve).must_keep(&Beats::new(20, 1).take(100));
    world.await_published(SOON);
    // A dataset of its own, so the buffer is not its.
    let stranger = world.batch().args([format!("--data={}", home.join("other").display())]).start();
    wait::until("the stranger to say that it waits", SOON, || !registration_ok(&stranger.metrics()).unwrap_or(true));
    wait::until("a look at the buffer", SOON, || {
        serve.metrics().sum("systole_buffer_heartbeats_max").is_some_and(|most| most > 0.0)
    });
    let scrapes = [&serve, &batch, &watch, &stranger].map(|process| process.metrics());
    [serve, batch, watch, stranger].into_iter().for_each(|process| process.stop());
    scrapes.into()
}

fn registration_ok(metrics: &Metrics) -> Option<bool> {
    Some(metrics.sum_where("systole_health_part_ok", |labels| labels["part"] == "registration")? > 0.0)
}

fn of_all_in_one() -> Metrics {
    let world = World::on(Buffer::Embedded);
    let authority = Authority::new("the house");
    let files = PemFiles::in_folder(&world.dataset().with_file_name("tls"));
    files.write(&authority.sign());
    let up = world.up().args(files.flags()).start();
    let client = authority.client();
    let metrics = wait::value("a look at the buffer", SOON, || {
        let metrics = Metrics::parse(&client.get(up.address(), "/metrics").unwrap().text);
        match metrics.sum("systole_buffer_heartbeats_max") {
            Some(_) => Ok(metrics),
            None => Err("not yet".to_owned()),
        }
    });
    up.stop();
    metrics
}
