//! A token in a cookie: for a browser that looks at the page. RFC 6265.
//!
//! The cookie is the token itself, out of reach of scripts (`HttpOnly`), sent to this server only, and never with what another
//! site asks for (`SameSite=Strict`). Nothing is kept of it here.

use std::time::Duration;

use actix_web::http::header::{COOKIE, HeaderMap};

use super::Credentials;
use crate::token::Presented;

const NAME: &str = "systole_token";
/// A browser forgets it after so long: a working day.
const MAX_AGE: Duration = Duration::from_secs(12 * 3600);

pub(super) fn read(headers: &HeaderMap) -> Credentials {
    let pairs = headers.get_all(COOKIE).filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == NAME);
    let Some((_, value)) = values.next() else { return Credentials::None };
    // Who can set cookies for a neighbouring name may add one; it is not asked which is the better one.
    if values.next().is_some() {
        return Credentials::Unreadable;
    }
    Credentials::of_text(value)
}

/// The `Set-Cookie` line that has a browser present this token from now on; over TLS alone where it came over TLS.
pub(in crate::http) fn set(token: &Presented, secure: bool) -> String {
    line(&token.secret.text(token.id), MAX_AGE, secure)
}

/// The line that has it forget.
pub(in crate::http) fn clear(secure: bool) -> String {
    line("", Duration::ZERO, secure)
}

fn line(value: &str, max_age: Duration, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", max_age.as_secs())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::token::Secret;

    #[test]
    fn one_cookie_with_one_token_is_read_among_others() {
        let (id, secret) = Secret::mint().unwrap();
        let text = secret.text(id);
        let read = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
            }
            read(&headers)
        };
        let ours = format!("systole_token={text}");
        for lines in [&[ours.as_str()][..], &[&format!("a=b; {ours};c")], &["theme=dark", &ours]] {
            assert!(matches!(read(lines), Credentials::Token(found) if found.id == id), "{lines:?}");
        }
        for lines in [&[][..], &["a=b"], &["systole_token"], &["systole_token="], &[&format!("x{ours}")]] {
            assert!(matches!(read(lines), Credentials::None), "{lines:?}");
        }
        let quoted = format!("systole_token=\"{text}\"");
        for lines in [&["systole_token=x"][..], &[&ours, &ours], &[&format!("{ours}; systole_token=")], &[&quoted]] {
            assert!(matches!(read(lines), Credentials::Unreadable), "{lines:?}");
        }
    }

    #[test]
    fn what_is_set_is_read_and_what_is_cleared_is_not() {
        let (id, secret) = Secret::mint().unwrap();
        let set = set(&Presented { id, secret }, true);
        assert!(set.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"), "{set}");
        let clear = clear(false);
        assert_eq!(clear, "systole_token=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(set.split(';').next().unwrap()).unwrap());
        assert!(matches!(read(&headers), Credentials::Token(found) if found.id == id));
    }
}
