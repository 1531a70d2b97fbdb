//! What the identity provider says of itself: its endpoints, and the keys that it signs with.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::Value as Json;

use super::form;
use crate::admin::AdminError;
use crate::config::server::OidcConfig;
use crate::control::live::lock;
use crate::percent::encoded;
use crate::proxy::fetch::Ask;

/// For so long it is not asked again.
const KNOWN_FOR: Duration = Duration::from_mins(5);
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Asks, and waits for the whole answer: its status and its body.
pub type Fetch = dyn Fn(&Ask<'_>) -> Result<(u16, Bytes), String> + Send + Sync;

/// The provider, as it is configured and as it says.
pub struct SignOn {
    pub config: OidcConfig,
    fetch: Box<Fetch>,
    known: Mutex<Option<(Instant, Arc<Known>)>>,
}

/// What it said.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    /// The client's secret goes into a header, not into the body.
    is_basic: bool,
    pub(super) keys: Json,
}

impl SignOn {
    pub fn new(config: OidcConfig, fetch: Box<Fetch>) -> Self {
        Self { config, fetch, known: Mutex::default() }
    }

    /// What is known, not older than a few minutes.
    pub(super) fn known(&self) -> Result<Arc<Known>, AdminError> {
        self.known_for(KNOWN_FOR)
    }

    /// What it says now: the keys may have changed. Only a token that the provider itself has sent
    /// makes us ask.
    pub(super) fn known_anew(&self) -> Result<Arc<Known>, AdminError> {
        self.known_for(Duration::ZERO)
    }

    fn known_for(&self, age_max: Duration) -> Result<Arc<Known>, AdminError> {
        let kept = lock(&self.known).clone();
        if let Some((at, known)) = kept
            && at.elapsed() < age_max
        {
            return Ok(known);
        }
        let known = Arc::new(self.discover()?);
        *lock(&self.known) = Some((Instant::now(), Arc::clone(&known)));
        Ok(known)
    }

    fn discover(&self) -> Result<Known, AdminError> {
        let issuer = &self.config.issuer;
        let said = self.json(&format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/')))?;
        // Else one provider could speak for another.
        if said.get("issuer").and_then(Json::as_str) != Some(issuer) {
            return Err(failed("its issuer is not the configured one"));
        }
        let endpoint = |name: &str| {
            let url = said.get(name).and_then(Json::as_str);
            let url = url.ok_or_else(|| failed("it misses an endpoint"))?;
            let is_safe = url.starts_with("https://") || issuer.starts_with("http://");
            if is_safe { Ok(url.to_owned()) } else { Err(failed("an endpoint is not https")) }
        };
        let methods = said.get("token_endpoint_auth_methods_supported").and_then(Json::as_array);
        Ok(Known {
            authorization_endpoint: endpoint("authorization_endpoint")?,
            token_endpoint: endpoint("token_endpoint")?,
            is_basic: methods
                .is_none_or(|methods| methods.iter().any(|it| it == "client_secret_basic")),
            keys: self.json(&endpoint("jwks_uri")?)?,
        })
    }

    fn json(&self, url: &str) -> Result<Json, AdminError> {
        let ask = Ask { method: "GET", url, headers: &[], body: String::new() };
        self.ask(&ask)
    }

    fn ask(&self, ask: &Ask<'_>) -> Result<Json, AdminError> {
        let (status, body) = (self.fetch)(ask).map_err(|error| failed(&error))?;
        if status != 200 {
            return Err(failed(&format!("it answered {status}")));
        }
        serde_json::from_slice(&body).map_err(|_| failed("it answered no JSON"))
    }

    /// The ID token for a code.
    pub(super) fn exchange(&self, code: &str, verifier: &str) -> Result<String, AdminError> {
        let known = self.known()?;
        let OidcConfig { client_id, client_secret, redirect_url, .. } = &self.config;
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_url),
            ("code_verifier", verifier),
        ];
        let form_type = "application/x-www-form-urlencoded".to_owned();
        let mut headers = vec![("content-type", form_type)];
        if known.is_basic {
            let [id, secret] = [client_id, client_secret.expose()].map(|text| encoded(text, ""));
            headers.push((
                "authorization",
                format!("Basic {}", BASE64.encode(format!("{id}:{secret}"))),
            ));
        } else {
            pairs.extend([
                ("client_id", client_id.as_str()),
                ("client_secret", client_secret.expose()),
            ]);
        }
        let url = &known.token_endpoint;
        let ask = Ask { method: "POST", url, headers: &headers, body: form(&pairs) };
        let answer = self.ask(&ask)?;
        let token = answer.get("id_token").and_then(Json::as_str);
        token.map(str::to_owned).ok_or_else(|| failed("it sent no ID token"))
    }
}

/// For the log: whoever logs in cannot help it.
fn failed(why: &str) -> AdminError {
    tracing::warn!(why, "the identity provider failed");
    AdminError::SignOn("the identity provider failed; the log says how")
}
