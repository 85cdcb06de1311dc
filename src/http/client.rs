//! Whose request it is: the address that rate limits count.
//!
//! What a header says about the client is believed only when the peer is a configured proxy, and only as far as a chain
//! of such proxies reaches, read from the right: each proxy appends, so whatever stands left of the first address that is
//! not ours was written by somebody whom nobody vouches for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR, X_FORWARDED_PROTO};
use ipnet::IpNet;

use super::limits::ForwardedHeader;

/// Entries of a forwarded-for header that are looked at; no chain of one's own proxies is longer.
const MAX_HOPS: usize = 16;

/// Finds the address of a client.
#[derive(Debug)]
pub(super) struct ClientAddresses {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
}

impl ClientAddresses {
    pub(super) fn new(trusted: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { trusted, header }
    }

    /// The client's address. A peer without one (a Unix socket) is 0.0.0.0.
    pub(super) fn of(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip().to_canonical());
        if self.trusted.is_empty() || !self.is_trusted(client) {
            return client;
        }
        let (name, address): (HeaderName, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, node_address),
            ForwardedHeader::Forwarded => (FORWARDED, forwarded_address),
        };
        // Several lines of one header read as one line in their order.
        let lines: Vec<&str> = headers.get_all(name).filter_map(|line| line.to_str().ok()).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        for hop in hops.take(MAX_HOPS) {
            // "unknown", an obfuscated name or garbage: the proxy that passed it on answers for it.
            let Some(address) = address(hop.trim()) else { break };
            client = address;
            if !self.is_trusted(client) {
                break;
            }
        }
        client
    }

    /// Whether the proxy of ours that the request came through says that it was spoken to over TLS.
    pub(super) fn came_over_tls(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> bool {
        let is_proxy = peer.is_some_and(|peer| self.is_trusted(peer.ip().to_canonical()));
        let (name, protocol): (HeaderName, fn(&str) -> Option<&str>) = match self.header {
            ForwardedHeader::XForwardedFor => (X_FORWARDED_PROTO, |hop| Some(hop)),
            ForwardedHeader::Forwarded => (FORWARDED, forwarded_protocol),
        };
        // The last entry is that proxy's own.
        let last = headers.get_all(name).last().and_then(|line| line.to_str().ok()?.rsplit(',').next());
        is_proxy && last.and_then(|hop| protocol(hop)).is_some_and(|said| said.trim().eq_ignore_ascii_case("https"))
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// The address of a node: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn node_address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    let address = bare.parse().ok().or_else(|| node.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

/// The `for` of one element of a `Forwarded` header.
fn forwarded_address(element: &str) -> Option<IpAddr> {
    node_address(member(element, "for")?)
}

/// The `proto` of it.
fn forwarded_protocol(element: &str) -> Option<&str> {
    member(element, "proto")
}

fn member<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then_some(value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1:999";

    fn client(header: ForwardedHeader, peer: &str, lines: &[&'static str]) -> String {
        let addresses = ClientAddresses::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], header);
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = match header {
                ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
                ForwardedHeader::Forwarded => FORWARDED,
            };
            headers.append(name, HeaderValue::from_static(line));
        }
        addresses.of(Some(peer.parse().unwrap()), &headers).to_string()
    }

    #[test]
    fn only_what_our_own_proxies_wrote_is_believed() {
        let cases: &[(&str, &[&'static str], &str)] = &[
            // A stranger may claim anything.
            ("192.0.2.9:1", &["198.51.100.1"], "192.0.2.9"),
            (PROXY, &[], "10.0.0.1"),
            (PROXY, &["198.51.100.1"], "198.51.100.1"),
            // The left part came from the client itself.
            (PROXY, &["203.0.113.5, 198.51.100.1"], "198.51.100.1"),
            (PROXY, &["203.0.113.5", "198.51.100.1, 10.1.1.1"], "198.51.100.1"),
            (PROXY, &["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
            (PROXY, &["198.51.100.1, unknown, 10.1.1.1"], "10.1.1.1"),
            (PROXY, &["198.51.100.1:4711"], "198.51.100.1"),
            (PROXY, &["[2001:db8::7]:4711"], "2001:db8::7"),
            (PROXY, &["2001:db8::7"], "2001:db8::7"),
            ("[::ffff:10.0.0.1]:1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ];
        for (peer, lines, expected) in cases {
            assert_eq!(client(ForwardedHeader::XForwardedFor, peer, lines), *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_likewise() {
        let cases: &[(&[&'static str], &str)] = &[
            (&["for=203.0.113.5, for=198.51.100.1;proto=https"], "198.51.100.1"),
            (&[r#"proto=http;For="[2001:db8::7]:4711""#], "2001:db8::7"),
            (&[r#"for=198.51.100.1, for="[fd00::1]""#], "198.51.100.1"),
            (&["for=_hidden"], "10.0.0.1"),
            (&["by=198.51.100.1"], "10.0.0.1"),
        ];
        for (lines, expected) in cases {
            assert_eq!(client(ForwardedHeader::Forwarded, PROXY, lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn tls_in_front_of_us_is_believed_of_our_own_proxy_alone() {
        let over_tls = |header, peer: &str, name: HeaderName, line: &'static str| {
            let addresses = ClientAddresses::new(vec!["10.0.0.0/8".parse().unwrap()], header);
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(line))]);
            addresses.came_over_tls(Some(peer.parse().unwrap()), &headers)
        };
        for (line, expected) in [("https", true), ("http, HTTPS", true), ("https, http", false), ("", false)] {
            assert_eq!(over_tls(ForwardedHeader::XForwardedFor, PROXY, X_FORWARDED_PROTO, line), expected, "{line}");
        }
        assert!(!over_tls(ForwardedHeader::XForwardedFor, "192.0.2.9:1", X_FORWARDED_PROTO, "https"));
        assert!(!over_tls(ForwardedHeader::Forwarded, PROXY, X_FORWARDED_PROTO, "https"), "one header is read");
        assert!(over_tls(ForwardedHeader::Forwarded, PROXY, FORWARDED, "for=198.51.100.1;Proto=\"https\""));
    }

    #[test]
    fn an_endless_chain_is_not_walked() {
        let endless = Box::leak(vec!["10.0.0.2"; 10_000].join(",").into_boxed_str());
        assert_eq!(client(ForwardedHeader::XForwardedFor, PROXY, &[endless]), "10.0.0.2");
    }
}
