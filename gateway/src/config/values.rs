//! What single settings look like as text.

use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;

/// `name` as a quoted SQL identifier.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Values of one setting, separated by commas. (clap would take a `Vec` for an
/// argument that may be given several times, and refuse an empty one.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

pub(super) fn parse_list<T>(
    s: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<List<T>, String> {
    let items = s.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items: Vec<T> = items.map(parse).collect::<Result<_, _>>()?;
    // An empty text is a setting that is not set; commas alone are a mistake, and would switch
    // a check off in silence.
    if items.is_empty() && !s.trim().is_empty() {
        return Err("it has commas and nothing between them".to_owned());
    }
    Ok(List(items))
}

pub(super) fn parse_origins(s: &str) -> Result<List<HeaderValue>, String> {
    parse_list(s, |origin| {
        let expected = || {
            format!(
                "{origin:?} is not an origin as browsers send it, such as https://app.example.com"
            )
        };
        let uri: http::Uri = origin.parse().map_err(|_| expected())?;
        let is_exact = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|a| !a.as_str().contains(['*', '@']))
            && uri.path_and_query().is_none_or(|path| path == "/")
            && !origin.ends_with('/')
            && !origin.contains(char::is_uppercase);
        if is_exact {
            HeaderValue::from_str(origin).map_err(|_| expected())
        } else {
            Err(expected())
        }
    })
}

pub(super) fn parse_networks(s: &str) -> Result<List<IpNet>, String> {
    parse_list(s, |network| {
        let address = || network.parse::<std::net::IpAddr>().map(IpNet::from);
        network.parse().or_else(|_| address()).map_err(|_| {
            format!("{network:?} is neither an address nor a network, such as 10.0.0.0/8")
        })
    })
}

/// A channel's name.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_channel(s: &str) -> Result<String, String> {
    check_identifier(s)?;
    Ok(s.to_owned())
}

fn check_identifier(s: &str) -> Result<(), String> {
    // NAMEDATALEN - 1: Postgres would cut a longer one, and LISTEN to another.
    const MAX_BYTES: usize = 63;
    match s.len() {
        0 => Err("a name is missing".into()),
        n if n > MAX_BYTES => Err(format!("{n} bytes; Postgres' names have at most {MAX_BYTES}")),
        _ if s.contains(char::is_control) => Err("a name holds no control characters".into()),
        _ => Ok(()),
    }
}

pub(super) fn parse_duration(s: &str) -> Result<Duration, String> {
    // A timer of years is a slip of the unit, and would overflow the clocks.
    const MAX: Duration = Duration::from_secs(24 * 60 * 60);
    const MIN: Duration = Duration::from_millis(10);
    let duration = duration(s)?;
    if (MIN..=MAX).contains(&duration) {
        Ok(duration)
    } else {
        Err("a duration is at least 10ms and at most 24h".into())
    }
}

/// How long events are kept.
pub(super) fn parse_retention(s: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    const MIN: Duration = Duration::from_secs(1);
    let duration = duration(s)?;
    if (MIN..=MAX).contains(&duration) {
        Ok(duration)
    } else {
        Err("events are kept for at least 1s and at most 366days".into())
    }
}

fn duration(s: &str) -> Result<Duration, String> {
    humantime::parse_duration(s)
        .map_err(|_| "a duration has a number and a unit, such as 500ms, 30s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_sane_size() {
        for bad in ["30", "0s", "1ms", "-1s", "soon", "2days", ""] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_duration("1m 30s").unwrap(), Duration::from_secs(90));
    }

    #[test]
    fn origins_are_exact_and_networks_are_networks() {
        let origins = parse_origins(" https://a.example, http://localhost:5173 ,").unwrap();
        assert_eq!(origins.0, ["https://a.example", "http://localhost:5173"]);
        assert!(parse_origins("").unwrap().0.is_empty());
        for bad in ["*", "https://*.example", "a.example", "https://a/", "https://a/x", "HTTPS://A"]
        {
            assert!(parse_origins(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_networks("10.1.2.3,10.0.0.0/8,::1").unwrap().0.len(), 3);
        assert!(parse_networks("").unwrap().0.is_empty());
        assert!(parse_networks("proxy").is_err());
    }

    #[test]
    fn a_list_of_commas_alone_is_a_mistake_and_an_empty_one_is_not_set() {
        let list = |text: &str| parse_list(text, |item| Ok(item.to_owned())).map(|list| list.0);
        assert_eq!(list("a, b,"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(list(""), Ok(Vec::new()));
        assert!(list(",").is_err() && list(" , ,").is_err());
    }
}
