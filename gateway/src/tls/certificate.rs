//! What rustls does not tell of a certificate: how long it is valid, and its
//! common name.

use std::time::Duration;

use rustls::{
    CertificateError, Error,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use x509_cert::{
    Certificate,
    der::{Decode as _, asn1::ObjectIdentifier},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// The attribute `CN` (RFC 4519, section 2.3).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate, taken apart.
pub(super) struct Parsed(Certificate);

impl Parsed {
    pub(super) fn new(der: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = Certificate::from_der(der);
        parsed.map(Self).map_err(|_| CertificateError::BadEncoding.into())
    }

    /// Whether it is valid at this time.
    pub(super) fn check_validity(&self, now: UnixTime) -> Result<(), Error> {
        let now = Duration::from_secs(now.as_secs());
        let validity = &self.0.tbs_certificate.validity;
        if now < validity.not_before.to_unix_duration() {
            Err(CertificateError::NotValidYet.into())
        } else if now > validity.not_after.to_unix_duration() {
            Err(CertificateError::Expired.into())
        } else {
            Ok(())
        }
    }

    /// Whether `name` is its common name, which libpq looks at where there are no
    /// alternative names of a host.
    pub(super) fn has_common_name(&self, name: &ServerName<'_>) -> bool {
        let name = name.to_str();
        !self.has_alternative_names() && self.common_names().any(|cn| matches(cn, &name))
    }

    fn has_alternative_names(&self) -> bool {
        let is_host = |name: &GeneralName| {
            matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_))
        };
        match self.0.tbs_certificate.get::<SubjectAltName>() {
            Ok(None) => false,
            Ok(Some((_, names))) => names.0.iter().any(is_host),
            // What cannot be read might be another name.
            Err(_) => true,
        }
    }

    fn common_names(&self) -> impl Iterator<Item = &str> {
        let attributes = self.0.tbs_certificate.subject.0.iter().flat_map(|rdn| rdn.0.iter());
        attributes
            .filter(|attribute| attribute.oid == COMMON_NAME)
            .filter_map(|attribute| std::str::from_utf8(attribute.value.value()).ok())
    }
}

/// A name, or `*.` and a name that any one label may stand before.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => {
            let (label, rest) = name.split_once('.').unwrap_or_default();
            !label.is_empty() && !parent.is_empty() && rest.eq_ignore_ascii_case(parent)
        }
        None => !pattern.is_empty() && name.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_label_and_nothing_more() {
        assert!(matches("db.example.com", "DB.example.com"));
        assert!(matches("*.example.com", "db.example.com"));
        for (pattern, name) in [
            ("*.example.com", "example.com"),
            ("*.example.com", "a.db.example.com"),
            ("*.example.com", ".example.com"),
            ("*", "localhost"),
            ("*.", "localhost."),
            ("", ""),
            ("db", "db.example.com"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
