//! The `Accept` header: what a client would rather read (RFC 9110, 12.5.1).

use actix_web::http::header::{ACCEPT, HeaderMap};

/// One range of media types, and how much it is wanted, in thousandths.
#[derive(Debug, PartialEq, Eq)]
struct Range<'a> {
    of: (&'a str, &'a str),
    quality: u32,
}

impl<'a> Range<'a> {
    /// `None` for what is none: it asks for nothing.
    fn read(element: &'a str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        // Other parameters (a charset, a header line) are told of, not asked about: there is one form of each.
        let quality =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let quality = quality.map_or(Some(1000), |(_, value)| thousandths(value.trim()))?;
        Some(Self { of: (kind.trim(), subtype.trim()), quality })
    }

    /// How closely it names `media_type`; `None` when it does not.
    fn closeness(&self, media_type: &str) -> Option<u8> {
        let (kind, subtype) = media_type.split_once('/')?;
        match self.of {
            ("*", "*") => Some(0),
            (of, "*") if of.eq_ignore_ascii_case(kind) => Some(1),
            (of, sub) if of.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

/// A quality value: 0 to 1 with at most three digits behind the point.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u32 = format!("{digits:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// The one of `offered`, the server's own favourite first, that a client wants most; `None` when it wants none of them.
pub(super) fn choose<T: Copy>(headers: &HeaderMap, offered: &[T], media_type: impl Fn(T) -> &'static str) -> Option<T> {
    let lines: Vec<&str> = headers.get_all(ACCEPT).filter_map(|line| line.to_str().ok()).collect();
    if lines.iter().all(|line| line.trim().is_empty()) {
        return offered.first().copied();
    }
    let ranges: Vec<Range<'_>> = lines.iter().flat_map(|line| line.split(',')).filter_map(Range::read).collect();
    let wanted = |one: T| {
        let named = ranges.iter().filter_map(|range| Some((range.closeness(media_type(one))?, range.quality)));
        named.max().map_or(0, |(_, quality)| quality)
    };
    let mut best: Option<(u32, T)> = None;
    for &one in offered {
        let quality = wanted(one);
        if quality > best.map_or(0, |(most, _)| most) {
            best = Some((quality, one));
        }
    }
    best.map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const OFFERED: [&str; 3] = ["application/json", "text/csv", "application/x-ndjson"];

    fn chosen(lines: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, HeaderValue::from_static(line));
        }
        choose(&headers, &OFFERED, |one| one)
    }

    #[test]
    fn what_is_wanted_most_is_chosen() {
        let (json, csv, lines) = (Some(OFFERED[0]), Some(OFFERED[1]), Some(OFFERED[2]));
        let cases: &[(&[&'static str], Option<&str>)] = &[
            (&[], json),
            (&[""], json),
            (&["*/*"], json),
            (&["text/csv"], csv),
            (&["TEXT/CSV; Q=0.5"], csv),
            (&["text/csv;header=present;q=0.9, application/json;q=0.1"], csv),
            (&["text/*, application/*;q=0.1"], csv),
            (&["text/csv;q=0.3", "application/x-ndjson;q=0.4"], lines),
            // What is named more closely counts, wherever it stands.
            (&["*/*, application/json;q=0"], csv),
            (&["application/json;q=0.1, application/*"], lines),
            (&["application/*, */*;q=1"], json),
            // Browsers.
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], json),
            (&["text/html"], None),
            (&["application/json;q=0"], None),
            (&["json"], None),
            (&["application/json;q=2"], None),
            (&["application/json;q=0.0001"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(chosen(lines), *expected, "{lines:?}");
        }
    }
}
