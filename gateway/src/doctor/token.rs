//! Whether there are keys, and whether a given token opens a stream.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Finding, Verdict};
use crate::{
    auth::{self, AuthConfig, Identity, TokenError, Verifier},
    config::warnings,
    error::chain,
    postgres::store::PostgresStore,
    revocation::Revocations,
    store::{Store as _, StoreError, Transaction as _},
};

/// Longer than one fetch of the key set may take.
const FETCH_PATIENCE: Duration = Duration::from_secs(6);

/// Revocations are read from `store`, where the database is reached.
pub(super) async fn examine(
    config: &AuthConfig,
    token: Option<&str>,
    store: Option<&PostgresStore>,
) -> Vec<Finding> {
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
        findings.push(match verifier.verify(token).await {
            Ok(identity) => admitted(token, &identity, store).await,
            Err(error) => refused(token, &error),
        });
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
    let fetched = match timeout(FETCH_PATIENCE, reported.recv()).await {
        Ok(Some(fetched)) => fetched,
        Ok(None) | Err(_) => Err("no answer".to_owned()),
    };
    findings.push(match fetched {
        Ok(keys) => {
            let what = format!("the key set was fetched: {keys} keys");
            Finding::new("key_set", Verdict::Ok, what)
        }
        Err(why) => {
            let what =
                format!("the key set cannot be fetched (--jwt-jwks-url, JWT_JWKS_URL): {why}");
            Finding::new("key_set", Verdict::Wrong, what)
        }
    });
    Some(fetching)
}

/// A valid token, which may have been revoked.
async fn admitted(token: &str, identity: &Identity, store: Option<&PostgresStore>) -> Finding {
    let Identity { user, expires_at, .. } = identity;
    let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
    let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
    let what = format!("the token opens the streams of user {user}, for {left} from now");
    let revocations = match store {
        Some(store) => revocations(store).await.map_err(|error| chain(&error)),
        None => Err("the database is not reached".to_owned()),
    };
    match revocations.map(|revocations| revocations.admit(identity)) {
        Ok(Ok(())) => Finding::new("token", Verdict::Ok, what),
        Ok(Err(error)) => refused(token, &error),
        Err(why) => {
            let what = format!("{what}, unless it has been revoked: {why}");
            Finding::new("token", Verdict::Note, what)
        }
    }
}

async fn revocations(store: &PostgresStore) -> Result<Revocations, StoreError> {
    let mut transaction = store.begin().await?;
    let read = transaction.revocations(None).await?;
    transaction.commit().await?;
    let revocations = Revocations::default();
    revocations.replace(&read.found);
    Ok(revocations)
}

fn refused(token: &str, error: &TokenError) -> Finding {
    let what = format!("the token opens nothing: {error}{}", auth::described(token));
    Finding::new("token", Verdict::Wrong, what)
}
