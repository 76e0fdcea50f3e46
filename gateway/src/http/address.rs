//! Where a request comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, Request, header};
use ipnet::IpNet;

/// The client's address: the peer's, or, where the peer is a trusted proxy, the
/// last one in its headers that is not. `None` where only proxies are named: a
/// limit on those would be one on everybody behind them.
///
/// Read from the right: what stands to the left of the first stranger is what
/// the stranger said. `X-Forwarded-For` counts before `Forwarded` (RFC 7239),
/// which most proxies pass on as the client sent it.
pub(crate) fn client_address(
    peer: SocketAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let mut client = peer.ip().to_canonical();
    if !is_trusted(client, trusted) {
        return Some(client);
    }
    let hops = if headers.contains_key("x-forwarded-for") {
        hops(headers, "x-forwarded-for", plain_address)
    } else {
        hops(headers, header::FORWARDED.as_str(), forwarded_for)
    };
    for hop in hops.into_iter().rev() {
        // What is no address was added by nobody we trust to know one.
        let Some(hop) = hop else { break };
        client = hop;
        if !is_trusted(client, trusted) {
            break;
        }
    }
    (!is_trusted(client, trusted)).then_some(client)
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The host of the page's own origin: the request's, or, where the peer is a
/// trusted proxy, the one it was asked for.
pub(crate) fn own_host<'a, B>(
    peer: Option<SocketAddr>,
    request: &'a Request<B>,
    trusted: &[IpNet],
) -> Option<&'a str> {
    let headers = request.headers();
    let is_proxy = peer.is_some_and(|peer| is_trusted(peer.ip().to_canonical(), trusted));
    let forwarded = || last_value(headers, "x-forwarded-host").filter(|host| !host.is_empty());
    let standard = || last_value(headers, header::FORWARDED.as_str()).and_then(forwarded_host);
    let asked_for = if is_proxy { forwarded().or_else(standard) } else { None };
    let host = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    asked_for.or_else(host).or_else(|| request.uri().authority().map(|host| host.as_str()))
}

/// One number for all addresses of one client: a host on IPv6 has a /64 to pick
/// from.
pub(crate) fn rate_key(address: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 64;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> HOST_BITS << HOST_BITS)),
    }
}

fn hops(headers: &HeaderMap, name: &str, parse: fn(&str) -> Option<IpAddr>) -> Vec<Option<IpAddr>> {
    let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    values.flat_map(|value| value.split(',')).map(|hop| parse(hop.trim())).collect()
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    plain_address(parameter(element, "for")?)
}

fn forwarded_host(element: &str) -> Option<&str> {
    parameter(element, "host").filter(|host| !host.is_empty())
}

/// A parameter of one element of `Forwarded` (RFC 7239, section 4).
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.trim_matches('"'))
}

/// The last item of a header that is a list: what the nearest proxy wrote.
fn last_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn plain_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>();
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let trusted: Vec<IpNet> =
            ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|net| net.parse().unwrap()).into();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let address = client_address(peer.parse().unwrap(), &map, &trusted);
        address.map_or("a proxy".into(), |address| address.to_string())
    }

    #[test]
    fn a_header_counts_only_from_a_trusted_proxy() {
        let forged = ("x-forwarded-for", "198.51.100.7");
        assert_eq!(client("203.0.113.9:1", &[forged]), "203.0.113.9");
        assert_eq!(client("127.0.0.1:1", &[forged]), "198.51.100.7");
        assert_eq!(client("[::ffff:127.0.0.1]:1", &[forged]), "198.51.100.7");
        assert_eq!(client("127.0.0.1:1", &[]), "a proxy");
    }

    #[test]
    fn what_the_client_wrote_itself_is_left_of_what_the_proxies_wrote() {
        let chain = ("x-forwarded-for", "1.1.1.1, 198.51.100.7, 10.0.0.3");
        assert_eq!(client("127.0.0.1:1", &[chain]), "198.51.100.7");
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.7:4711")];
        assert_eq!(client("10.0.0.1:1", &lines), "198.51.100.7");
        let broken = ("x-forwarded-for", "198.51.100.7, unknown, 10.0.0.3");
        assert_eq!(client("127.0.0.1:1", &[broken]), "a proxy");
    }

    #[test]
    fn forwarded_is_understood_in_all_its_forms() {
        for (value, address) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"[2001:db8::1]:4711\";proto=https, for=10.0.0.2", "2001:db8::1"),
            ("proto=http;for=\"198.51.100.7:80\"", "198.51.100.7"),
            ("for=_hidden", "a proxy"),
            ("for=unknown, for=10.1.1.1", "a proxy"),
        ] {
            assert_eq!(client("127.0.0.1:1", &[("forwarded", value)]), address, "{value}");
        }
        let both = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "198.51.100.7")];
        assert_eq!(client("127.0.0.1:1", &both), "198.51.100.7");
    }

    #[test]
    fn a_host_on_ipv6_is_one_client_whichever_of_its_addresses_it_uses() {
        let key = |text: &str| rate_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    proptest! {
        #[test]
        fn any_header_is_answered(value in "[ -~]{0,80}") {
            let _address = client("127.0.0.1:1", &[("x-forwarded-for", &value)]);
            let _address = client("127.0.0.1:1", &[("forwarded", &value)]);
        }
    }
}
