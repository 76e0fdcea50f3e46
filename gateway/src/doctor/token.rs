//! Whether there are keys, and whether a given token opens a stream.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Finding, Verdict};
use crate::{
    auth::{self, AuthConfig, TokenError, Verifier},
    config::warnings,
    error::chain,
};

/// Longer than one fetch of the key set may take.
const FETCH_PATIENCE: Duration = Duration::from_secs(6);

pub(super) async fn examine(config: &AuthConfig, token: Option<&str>) -> Vec<Finding> {
    let mut findings: Vec<_> = warnings(config)
        .into_iter()
        .map(|warning| Finding::new("keys", Verdict::Warning, warning))
        .collect();
    let verifier = Verifier::new(config);
    let fetching = fetch(&verifier, &mut findings).await;
    if verifier.has_keys() {
        findings.push(Finding::new("keys", Verdict::Ok, "there are keys that verify tokens"));
    }
    if let Some(token) = token {
        let outcome = verifier.verify(token).await;
        findings.push(told(
            token,
            outcome.as_ref().map(|identity| (&identity.user, identity.expires_at)),
        ));
    }
    drop(fetching);
    findings
}

/// Has the key set fetched once; what is given keeps it at hand.
async fn fetch(verifier: &Verifier, findings: &mut Vec<Finding>) -> Option<AbortOnDropHandle<()>> {
    let key_set = Arc::clone(verifier.key_set()?);
    let (reports, mut reported) = mpsc::channel(1);
    let fetching = AbortOnDropHandle::new(tokio::spawn(async move {
        key_set
            .run(|fetched| {
                let said = fetched.as_ref().map(|keys| *keys).map_err(|error| chain(error));
                // Only the first is waited for.
                let _heard = reports.try_send(said);
            })
            .await;
    }));
    let what = match timeout(FETCH_PATIENCE, reported.recv()).await {
        Ok(Some(Ok(keys))) => {
            let what = format!("the key set was fetched: {keys} keys");
            findings.push(Finding::new("key_set", Verdict::Ok, what));
            return Some(fetching);
        }
        Ok(Some(Err(error))) => error,
        Ok(None) | Err(_) => "no answer".to_owned(),
    };
    let what = format!("the key set cannot be fetched (--jwks-url, JWKS_URL): {what}");
    findings.push(Finding::new("key_set", Verdict::Wrong, what));
    Some(fetching)
}

fn told(
    token: &str,
    outcome: Result<(&crate::notification::UserId, SystemTime), &TokenError>,
) -> Finding {
    match outcome {
        Ok((user, expires_at)) => {
            let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
            let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
            let what = format!("the token opens the streams of user {user}, for {left} from now");
            Finding::new("token", Verdict::Ok, what)
        }
        Err(error) => {
            let what = format!("the token opens nothing: {error}{}", auth::described(token));
            Finding::new("token", Verdict::Wrong, what)
        }
    }
}
