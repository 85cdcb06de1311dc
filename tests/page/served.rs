//! What the server sends for a page.

use crate::support::{Buffer, World, client};

const FILES: [&str; 3] = ["/", "/page/main.js", "/page/page.css"];

#[test]
fn the_page_comes_with_a_strict_policy_and_only_once() {
    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    let http = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    for path in FILES {
        let whole = up.get(path).unwrap();
        assert_eq!((whole.status, whole.header("cache-control")), (200, Some("no-cache")), "{path}");
        let policy = whole.header("content-security-policy").unwrap();
        for rule in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
        {
            assert!(policy.contains(rule) && !policy.contains("unsafe"), "{path}: {policy}");
        }
        assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(whole.header("referrer-policy"), Some("no-referrer"));
        let url = format!("{}{path}", up.url());
        let again = http.get(&url).header("if-none-match", whole.header("etag").unwrap()).send().unwrap();
        assert_eq!(again.status(), 304, "{path}");
        assert!(again.headers().contains_key("content-security-policy"));
        let other = http.get(&url).header("if-none-match", "\"another\"").send().unwrap();
        assert_eq!(other.status(), 200, "{path}");
        assert_eq!(http.head(&url).send().unwrap().status(), 200, "{path}");
        assert_eq!(http.post(&url).send().unwrap().status(), 405, "{path}");
    }
    assert_eq!(client::get(&format!("{}/page/mod.rs", up.url())).unwrap().status, 404);
    up.stop();
}
