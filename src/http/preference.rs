//! The `Prefer` header of RFC 7240, as far as it speaks of handling.

use actix_web::http::header::{HeaderMap, HeaderName};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What becomes of good records beside bad ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preference {
    /// They are kept. The default.
    Lenient,
    /// They are refused too.
    Strict,
}

impl Preference {
    /// The stated preference; the first one counts when there are several, as the RFC wants it.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(PREFER)
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .find_map(Self::of_element)
    }

    /// What stands in `Preference-Applied`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Lenient => "handling=lenient",
            Self::Strict => "handling=strict",
        }
    }

    fn of_element(element: &str) -> Option<Self> {
        let preference = element.split(';').next()?;
        let (name, value) = preference.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("handling") {
            return None;
        }
        match value.trim().trim_matches('"') {
            value if value.eq_ignore_ascii_case("strict") => Some(Self::Strict),
            value if value.eq_ignore_ascii_case("lenient") => Some(Self::Lenient),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_first_known_handling_counts() {
        let cases: &[(&[&'static str], Option<Preference>)] = &[
            (&[], None),
            (&["handling=strict"], Some(Preference::Strict)),
            (&[r#"respond-async, Handling = "STRICT"; x=y"#], Some(Preference::Strict)),
            (&["handling=lenient, handling=strict"], Some(Preference::Lenient)),
            (&["wait=5", "handling=strict"], Some(Preference::Strict)),
            (&["handling=odd", "strict"], None),
        ];
        for (lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(PREFER, HeaderValue::from_static(line));
            }
            assert_eq!(Preference::of(&headers), *expected, "{lines:?}");
        }
    }
}
