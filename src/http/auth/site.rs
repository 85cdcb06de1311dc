//! What a browser on this machine may be made to do by a page of somebody else, where no token is asked for.
//!
//! An address that no other machine reaches is reached by every page that is open in a browser there. Two things are refused:
//! - what another site has a browser *send*. What it has a browser fetch it cannot read, so looking is let through;
//! - a request by somebody else's name: a name of theirs may lead here (DNS rebinding), and then the browser takes them for
//!   this server and lets them read. Nobody else has an address for a name, `localhost`, or a name without a dot.
//!
//! With tokens neither is needed: a browser sends a cookie's token for looking alone, and to the name alone that set it.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};

use super::Refusal;

/// Says who had a request made. Sent by every browser of these years, and by nothing else.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what another site may have had a browser do here; where `by_any_name`, other names of this server are known to be
/// its own.
pub(super) fn judge(request: &HttpRequest, by_any_name: bool) -> Result<(), Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !is_sent_by_own_site(request.headers()) {
        return Err(Refusal::OtherSite);
    }
    let asked = text(request.headers(), &HOST).or_else(|| request.uri().authority().map(|name| name.as_str()));
    if by_any_name || asked.is_none_or(is_own_name) { Ok(()) } else { Err(Refusal::OtherName) }
}

/// Whether a page of this server sent it, or no browser did: that says nothing of where it comes from.
pub(in crate::http) fn is_sent_by_own_site(headers: &HeaderMap) -> bool {
    match (text(headers, &SEC_FETCH_SITE), text(headers, &ORIGIN)) {
        // "none" is what people typed themselves.
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        // Browsers leave the other one out where the page came without TLS from another machine.
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some_and(|host| text(headers, &HOST).is_some_and(|asked| asked.eq_ignore_ascii_case(host)))
        }
        (None, None) => true,
    }
}

/// Whether a host, with its port or without, is one that nobody else can have lead here.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<IpAddr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.contains('.') || name.parse::<IpAddr>().is_ok() || name.to_ascii_lowercase().ends_with(".localhost")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|line| line.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn what_another_site_has_a_browser_send_is_known_by_its_headers() {
        let ours = ("host", "systole.example:8080");
        let is_ours = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            is_sent_by_own_site(&headers)
        };
        for lines in [
            &[ours][..],
            &[ours, ("sec-fetch-site", "same-origin")],
            &[ours, ("sec-fetch-site", "none")],
            // A proxy that gives its own name for the host, in front of a browser that says who asks.
            &[("host", "127.0.0.1"), ("sec-fetch-site", "same-origin"), ("origin", "https://systole.example")],
            &[ours, ("origin", "http://systole.example:8080")],
            &[ours, ("origin", "https://SYSTOLE.example:8080")],
        ] {
            assert!(is_ours(lines), "{lines:?}");
        }
        for lines in [
            &[ours, ("sec-fetch-site", "cross-site")][..],
            &[ours, ("sec-fetch-site", "same-site")],
            &[ours, ("sec-fetch-site", "")],
            &[ours, ("sec-fetch-site", "cross-site"), ("origin", "http://systole.example:8080")],
            &[ours, ("origin", "http://evil.example")],
            &[ours, ("origin", "http://systole.example")],
            &[ours, ("origin", "null")],
            &[("origin", "http://systole.example")],
        ] {
            assert!(!is_ours(lines), "{lines:?}");
        }
    }

    #[test]
    fn a_name_that_others_can_have_lead_here_is_not_ours() {
        for own in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "10.0.0.7:80",
            "[::1]:8080",
            "[::1]",
            "localhost:8080",
            "LOCALHOST.",
            "a.localhost",
            "box",
        ] {
            assert!(is_own_name(own), "{own}");
        }
        for other in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "[evil.example]",
        ] {
            assert!(!is_own_name(other), "{other}");
        }
    }

    #[test]
    fn looking_is_judged_by_the_name_and_sending_by_the_site_too() {
        let request = |request: TestRequest, host: &'static str, site: &'static str| {
            request.insert_header(("host", host)).insert_header(("sec-fetch-site", site)).to_http_request()
        };
        let (own, other) = ("127.0.0.1:8080", "evil.example:8080");
        judge(&request(TestRequest::get(), own, "cross-site"), false).unwrap();
        judge(&request(TestRequest::post(), own, "same-origin"), false).unwrap();
        assert_eq!(judge(&request(TestRequest::post(), own, "cross-site"), false), Err(Refusal::OtherSite));
        assert_eq!(judge(&request(TestRequest::post(), own, "cross-site"), true), Err(Refusal::OtherSite));
        assert_eq!(judge(&request(TestRequest::get(), other, "same-origin"), false), Err(Refusal::OtherName));
        judge(&request(TestRequest::get(), other, "same-origin"), true).unwrap();
        judge(&TestRequest::post().to_http_request(), false).unwrap();
    }
}
