//! The `Authorization` header of RFC 6750.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

use crate::token::Presented;

/// What a request presents.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// Something that is no token of ours, whatever else it is.
    Unreadable,
    /// What looks like one.
    Token(Presented),
}

impl Credentials {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(AUTHORIZATION);
        let Some(line) = lines.next() else { return Self::None };
        // Two of them are two opinions; no proxy must be able to add a better one.
        if lines.next().is_some() {
            return Self::Unreadable;
        }
        line.to_str().ok().and_then(of_line).map_or(Self::Unreadable, Self::Token)
    }
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
        Credentials::of(&headers)
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
