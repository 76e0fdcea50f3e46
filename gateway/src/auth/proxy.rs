//! The way to the host of the key set: directly, or through the proxy that the
//! environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, as
//! curl reads them).

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

/// Connects to one destination.
#[derive(Clone)]
pub struct ProxiedConnector {
    http: HttpConnector,
    /// Asked for a tunnel (CONNECT), for plain HTTP as well: the proxy sees the
    /// host's name and, with https, nothing else.
    proxy: Option<Intercept>,
}

impl ProxiedConnector {
    /// The way to `destination` in this environment. A host of this machine is
    /// never looked for behind a proxy.
    ///
    /// # Errors
    ///
    /// The proxy of the environment is of a kind that is not supported.
    pub fn from_env(destination: &Uri) -> Result<Self, ProxyError> {
        Self::new(destination, &Matcher::from_env())
    }

    /// The same way, with TLS on it where the URL says https.
    pub fn with_tls(self, tls: ClientConfig) -> HttpsConnector<Self> {
        HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(self)
    }

    fn new(destination: &Uri, proxies: &Matcher) -> Result<Self, ProxyError> {
        let proxy = if is_local(destination) { None } else { proxies.intercept(destination) };
        if proxy.as_ref().is_some_and(|proxy| proxy.uri().scheme_str() != Some("http")) {
            return Err(ProxyError);
        }
        let mut http = HttpConnector::new();
        // TLS is the business of the connector around this one.
        http.enforce_http(false);
        Ok(Self { http, proxy })
    }
}

/// The tunnel takes 443 for the port of a URL that names none, whatever its
/// scheme is.
fn with_port(url: Uri) -> Uri {
    const HTTP_PORT: u16 = 80;
    let Some(host) = url.host().filter(|_| url.port().is_none()) else { return url };
    if url.scheme_str() != Some("http") {
        return url;
    }
    let named = format!("http://{host}:{HTTP_PORT}/").parse();
    named.unwrap_or(url)
}

/// Whether the URL names this machine.
pub(super) fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Service<Uri> for ProxiedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let Some(proxy) = &self.proxy else {
            let connecting = self.http.call(destination);
            return Box::pin(async move { Ok(connecting.await?) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let connecting = tunnel.call(with_port(destination));
        Box::pin(async move { Ok(connecting.await?) })
    }
}

/// The proxy's address may hold a password: whether there is one is all to say.
impl fmt::Debug for ProxiedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxiedConnector")
            .field("through_proxy", &self.proxy.is_some())
            .finish_non_exhaustive()
    }
}

/// A proxy that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names a proxy that is not reached by plain HTTP; \
     set http://HOST:PORT, or put the key set's host into NO_PROXY"
)]
pub struct ProxyError;

#[cfg(test)]
mod tests {
    use super::*;

    fn through(destination: &str, proxy: &str) -> Result<bool, ProxyError> {
        let proxies = Matcher::builder().all(proxy).no("internal.example").build();
        let connector = ProxiedConnector::new(&destination.parse().unwrap(), &proxies)?;
        Ok(connector.proxy.is_some())
    }

    #[test]
    fn hosts_of_this_machine_and_of_no_proxy_are_reached_directly() {
        let proxy = "http://user:hunter2@proxy.example:3128";
        assert_eq!(through("https://id.example.com/jwks", proxy), Ok(true));
        for direct in [
            "http://localhost/x",
            "https://127.0.0.1:1/x",
            "http://[::1]/x",
            "https://a.internal.example/x",
        ] {
            assert_eq!(through(direct, proxy), Ok(false), "{direct}");
        }
        assert_eq!(through("https://id.example.com/jwks", "socks5://proxy"), Err(ProxyError));
    }

    #[test]
    fn the_proxys_password_is_not_printed() {
        let proxies = Matcher::builder().all("http://user:hunter2@proxy.example").build();
        let destination = "https://id.example.com".parse().unwrap();
        let connector = ProxiedConnector::new(&destination, &proxies).unwrap();
        assert!(!format!("{connector:?}").contains("hunter2"));
    }
}
