//! The `Authorization` header of RFC 6750.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

use super::Credentials;
use crate::token::Presented;

pub(super) fn read(headers: &HeaderMap) -> Credentials {
    let mut lines = headers.get_all(AUTHORIZATION);
    let Some(line) = lines.next() else { return Credentials::None };
    // Two of them are two opinions; no proxy must be able to add a better one.
    if lines.next().is_some() {
        return Credentials::Unreadable;
    }
    line.to_str().ok().and_then(of_line).map_or(Credentials::Unreadable, Credentials::Token)
}

fn of_line(line: &str) -> Option<Presented> {
    let (scheme, token) = line.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Presented::read(token.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::token::Secret;

    fn of(lines: &[&str]) -> Credentials {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        }
        read(&headers)
    }

    #[test]
    fn one_line_with_one_token_is_read() {
        let (id, secret) = Secret::mint().unwrap();
        let token = secret.text(id);
        for line in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER   {token} ")] {
            assert!(matches!(of(&[&line]), Credentials::Token(found) if found.id == id), "{line}");
        }
        assert!(matches!(of(&[]), Credentials::None));
        let bearer = format!("Bearer {token}");
        for lines in [
            &[token.as_str()][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic dXNlcjpwYXNz"],
            &[&format!("Bearer {token},{token}")],
            &[&format!("Bearer{token}")],
            &[&bearer, &bearer],
        ] {
            assert!(matches!(of(lines), Credentials::Unreadable), "{lines:?}");
        }
    }
}
