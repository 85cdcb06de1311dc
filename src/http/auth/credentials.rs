//! What a request presents, and where.

use actix_web::HttpRequest;
use actix_web::http::Method;

use super::{bearer, cookie};
use crate::token::Presented;

/// What is presented.
#[derive(Debug, Clone)]
pub(in crate::http) enum Credentials {
    /// Nothing.
    None,
    /// Something that is no token of ours, whatever else it is.
    Unreadable,
    /// What looks like one.
    Token(Presented),
}

impl Credentials {
    /// What is in the head of a request.
    pub(super) fn of(request: &HttpRequest) -> Self {
        match bearer::read(request.headers()) {
            // A browser sends its cookies also with what other sites make it send: with those it may look, not change.
            Self::None if matches!(*request.method(), Method::GET | Method::HEAD) => cookie::read(request.headers()),
            found => found,
        }
    }

    /// What stands in a text by itself.
    pub(in crate::http) fn of_text(text: &str) -> Self {
        match text.trim() {
            "" => Self::None,
            text => Presented::read(text).map_or(Self::Unreadable, Self::Token),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{AUTHORIZATION, COOKIE};
    use actix_web::test::TestRequest;

    use super::*;
    use crate::token::Secret;

    #[test]
    fn a_cookie_counts_for_looking_alone_and_never_beside_the_header() {
        let [(id, text), (other, other_text)] = [(); 2].map(|()| {
            let (id, secret) = Secret::mint().unwrap();
            (id, secret.text(id))
        });
        let with = |request: TestRequest| request.insert_header((COOKIE, format!("systole_token={text}")));
        for request in [TestRequest::get(), TestRequest::default().method(Method::HEAD)] {
            let found = Credentials::of(&with(request).to_http_request());
            assert!(matches!(found, Credentials::Token(found) if found.id == id));
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            let request = with(TestRequest::default().method(method)).to_http_request();
            assert!(matches!(Credentials::of(&request), Credentials::None));
        }
        for (line, expected) in [(format!("Bearer {other_text}"), Some(other)), ("Basic dTpw".to_owned(), None)] {
            let request = with(TestRequest::get()).insert_header((AUTHORIZATION, line)).to_http_request();
            match (Credentials::of(&request), expected) {
                (Credentials::Token(found), Some(expected)) => assert_eq!(found.id, expected),
                (Credentials::Unreadable, None) => {}
                (found, _) => panic!("{found:?}"),
            }
        }
    }
}
