//! What can be set about rate limits.

use ipnet::IpNet;

use crate::settings;

/// The header in which trusted proxies say for whom they speak.
///
/// Only one of them is read: a proxy that writes one mostly lets the other through as the client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: 192.0.2.7, 10.0.0.1`
    XForwardedFor,
    /// `Forwarded: for=192.0.2.7, for=10.0.0.1` (RFC 7239)
    Forwarded,
}

/// Settings of the rate limits; each `serve` process counts for itself.
///
/// Why these defaults. By user: a device that beats every 10 s and was offline for an hour comes back with 360
/// heartbeats, so a burst of 10,000 takes 27 such devices of one user at once, and equals the largest bulk; 100 a second
/// is 1,000 such devices of one user beating. By address: 10,000 devices behind one address may all come back in the
/// same instant, and beat every 10 s after that.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Rate limits")]
#[group(skip)]
pub struct Options {
    /// Heartbeats a second that one user may send in the long run; 0 turns this limit off
    #[arg(long, env = "SYSTOLE_USER_RATE", default_value_t = 100, value_name = "COUNT")]
    pub user_rate: u32,
    /// Heartbeats that one user may send at once
    #[arg(long, env = "SYSTOLE_USER_BURST", default_value_t = 10_000, value_name = "COUNT")]
    pub user_burst: u32,
    /// Requests a second that one client address may send in the long run; 0 turns this limit off
    #[arg(long, env = "SYSTOLE_ADDRESS_RATE", default_value_t = 1_000, value_name = "COUNT")]
    pub address_rate: u32,
    /// Requests that one client address may send at once
    #[arg(long, env = "SYSTOLE_ADDRESS_BURST", default_value_t = 10_000, value_name = "COUNT")]
    pub address_burst: u32,
    /// Users, and client addresses, that are counted one by one; about 40 bytes each, and newcomers beyond it share
    #[arg(long, env = "SYSTOLE_RATE_LIMIT_KEYS", default_value_t = 500_000, value_name = "COUNT")]
    pub rate_limit_keys: usize,
    /// Networks whose machines are believed when they say for whom they forward, as in 10.0.0.0/8,fd00::/8
    #[arg(long, env = "SYSTOLE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR,…")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which those proxies say it
    #[arg(long, env = "SYSTOLE_FORWARDED_HEADER", default_value = "x-forwarded-for", value_name = "HEADER")]
    pub forwarded_header: ForwardedHeader,
}

impl Default for Options {
    fn default() -> Self {
        settings::defaults()
    }
}
