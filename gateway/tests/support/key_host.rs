//! Where an issuer publishes its keys: a small HTTP server.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::AbortHandle,
};
use uuid::Uuid;

pub(crate) struct KeyHost {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    serving: Option<AbortHandle>,
}

impl KeyHost {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut host = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::default(),
            requests: Arc::default(),
            serving: None,
        };
        host.serve(listener);
        host
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.address)
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: &[Value]) {
        let body = json!({ "keys": keys }).to_string();
        self.answer_with("200 OK", &body);
    }

    pub(crate) fn answer_with(&self, status: &str, body: &str) {
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    /// How often it was asked.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Nobody answers any more.
    pub(crate) fn down(&mut self) {
        self.serving.take().unwrap().abort();
    }

    fn serve(&mut self, listener: TcpListener) {
        let (answer, requests) = (Arc::clone(&self.answer), Arc::clone(&self.requests));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                requests.fetch_add(1, Ordering::SeqCst);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0
                {
                }
                let answer = answer.lock().unwrap().clone();
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        self.serving = Some(serving.abort_handle());
    }
}

impl Drop for KeyHost {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A key that signs, as its issuer has it.
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
}

impl Signer {
    pub(crate) fn all() -> [Self; 4] {
        let rsa = EncodingKey::from_rsa_pem(include_bytes!("../keys/rsa.pem")).unwrap();
        let ec256 = EncodingKey::from_ec_pem(include_bytes!("../keys/ec256.pem")).unwrap();
        let ec384 = EncodingKey::from_ec_pem(include_bytes!("../keys/ec384.pem")).unwrap();
        let ed = EncodingKey::from_ed_pem(include_bytes!("../keys/ed25519.pem")).unwrap();
        [
            Self { id: "rsa", algorithm: Algorithm::RS256, key: rsa },
            Self { id: "p-256", algorithm: Algorithm::ES256, key: ec256 },
            Self { id: "p-384", algorithm: Algorithm::ES384, key: ec384 },
            Self { id: "ed", algorithm: Algorithm::EdDSA, key: ed },
        ]
    }

    /// As it is published.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    /// A token of `user` that names the key `id`.
    pub(crate) fn token(&self, id: Option<&str>, user: Uuid) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(self.algorithm) };
        let claims = json!({"sub": user, "exp": jsonwebtoken::get_current_timestamp() + 600});
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}
