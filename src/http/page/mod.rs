//! The page at `/`: how the collector is, for people.
//!
//! Constraints:
//! - The page holds no data and needs no token: it asks `/v1/status`, as anybody may, and shows what that answers. So these
//!   files are the same for all, and are embedded.
//! - Nothing comes from outside and nothing is built: what stands in this folder is what the browser gets.
//! - Devices choose their names, so what is shown is hostile. The scripts make text of it, never markup, and the policy below
//!   makes the browser refuse the ways in which it could become some: no script or style but these files, none that stands
//!   in the page itself, and no assignment of markup at all (`require-trusted-types-for`).
//! - A browser asks again at each visit (`no-cache`), and is answered 304 until the binary is another one.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, web};
use xxhash_rust::xxh3::xxh3_64;

use super::problem::{Kind, Problem};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(super) const ICON: &str = "image/svg+xml";

/// A file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const INDEX: File = File { name: "index.html", content_type: HTML, text: include_str!("index.html") };

/// What the page is made of, beside itself.
const FILES: [File; 10] = [
    File { name: "page.css", content_type: CSS, text: include_str!("page.css") },
    File { name: "icon.svg", content_type: ICON, text: include_str!("icon.svg") },
    File { name: "main.js", content_type: SCRIPT, text: include_str!("main.js") },
    File { name: "poll.js", content_type: SCRIPT, text: include_str!("poll.js") },
    File { name: "dom.js", content_type: SCRIPT, text: include_str!("dom.js") },
    File { name: "format.js", content_type: SCRIPT, text: include_str!("format.js") },
    File { name: "flow.js", content_type: SCRIPT, text: include_str!("flow.js") },
    File { name: "tables.js", content_type: SCRIPT, text: include_str!("tables.js") },
    File { name: "past.js", content_type: SCRIPT, text: include_str!("past.js") },
    File { name: "charts.js", content_type: SCRIPT, text: include_str!("charts.js") },
];

/// The names of [`FILES`].
pub(super) fn file_names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.name)
}

/// How the first file of this type begins; the document shows it.
pub(super) fn beginning_of(content_type: &str) -> String {
    let file = [&INDEX].into_iter().chain(&FILES).find(|file| file.content_type == content_type);
    file.map(|file| file.text.lines().take(5).flat_map(|line| [line, "\n"]).collect()).unwrap_or_default()
}

/// The handler of `/`.
pub(super) async fn index(request: HttpRequest) -> HttpResponse {
    answer(&INDEX, &request)
}

/// The handler of what the page is made of.
pub(super) async fn file(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    match FILES.iter().find(|file| file.name == *name) {
        Some(file) => answer(file, &request),
        None => Problem::new(Kind::NotFound, "The page has no such file.").respond(&request),
    }
}

fn answer(file: &File, request: &HttpRequest) -> HttpResponse {
    let tag = EntityTag::new_strong(format!("{:016x}", xxh3_64(file.text.as_bytes())));
    let known = knows(request, &tag);
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .insert_header((ETAG, tag.to_string()))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"));
    if known { answer.finish() } else { answer.insert_header((CONTENT_TYPE, file.content_type)).body(file.text) }
}

/// Whether the browser has this very text.
fn knows(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn all() -> impl Iterator<Item = &'static File> {
        [&INDEX].into_iter().chain(&FILES)
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/page");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<String> = names.filter(|name| !name.ends_with(".rs")).collect();
        let served: BTreeSet<String> = all().map(|file| file.name.to_owned()).collect();
        assert_eq!(there, served);
    }

    #[test]
    fn what_a_file_asks_for_is_served_and_nothing_is_from_outside() {
        for File { name, text, .. } in all() {
            for part in text.split("/page/").skip(1).chain(text.split("from \"./").skip(1)) {
                let asked: String = part.chars().take_while(|c| *c != '"').collect();
                assert!(file_names().any(|file| file == asked), "{name} asks for {asked}");
            }
            let outside = text.replace("http://www.w3.org/2000/svg", "").contains("://");
            assert!(!outside, "{name} names an address outside");
        }
    }

    #[test]
    fn no_file_makes_markup_of_text_or_holds_what_the_policy_forbids() {
        for File { name, text, .. } in all() {
            for way in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "cssText"]
            {
                assert!(!text.contains(way), "{name}: {way}");
            }
        }
        for inline in [" style=", " onclick=", " onload=", "<style", "javascript:"] {
            assert!(!INDEX.text.contains(inline), "{inline}");
        }
        assert!(!INDEX.text.contains("<script>"));
    }
}
