//! Connections: an account at a provider.

use std::time::Duration;

use super::limit::limits;
use super::names::Names;
use super::workspace::{check_description, check_labels};
use super::{Auth, BaseUrl, Connection, HealthCheck, unenforced};
use crate::config::fields::{Fields, Item};
use crate::config::url;
use crate::dialect::{Dialect, Dialects};
use crate::provider::Provider;
use crate::provider::aws::{AwsCredential, NotAwsKeys};
use crate::secret::Secret;

const CREDENTIAL_LEN_MAX: usize = 8192;

pub(super) fn read(fields: Fields<'_>, names: &mut Names) -> Connection {
    let name = names.declare(&fields, "name");
    if let Some(item) = fields.get("name").filter(|_| name.contains('/')) {
        // `connection/upstream-model` is what a client writes, and is cut at its first slash.
        item.problem("must not hold `/`");
    }
    let provider = fields.require("provider").and_then(|item| provider(&item));
    let settings = settings(&fields, provider);
    let base_url = match settings.base_url() {
        Some(url) if fields.get("base_url").is_none() => Some(url),
        _ => base_url(&fields, provider),
    };
    let credential_item = fields.get("credential");
    let credential = credential_item.as_ref().and_then(credential);
    let auth = match fields.get("auth") {
        Some(item) => item.choice(&[
            ("api_key", Auth::ApiKey),
            ("passthrough", Auth::Passthrough),
            ("none", Auth::None),
        ]),
        None => Some(default_auth(provider, base_url.as_ref(), credential_item.is_some())),
    };
    match (auth, &credential_item) {
        // What needs a credential is only known with the provider.
        (Some(Auth::ApiKey), None) if provider.is_some() => {
            let place = fields.place().key("credential", fields.place().line);
            let text = "is missing (or say `auth = \"none\"` or `auth = \"passthrough\"`)";
            fields.report().problem(&place, text);
        }
        (Some(Auth::None | Auth::Passthrough), Some(item)) => {
            item.warning("is not used: `auth` says to send none of ours");
        }
        _ => {}
    }
    let provider = provider.unwrap_or(Provider::Simulated);
    if let (Provider::Bedrock, Some(item), Some(credential)) =
        (provider, &credential_item, &credential)
    {
        check_aws(item, credential, settings.region.is_some());
    }
    let connection = Connection {
        name,
        provider,
        health_check: health_check(&fields, provider, base_url.as_ref()),
        base_url,
        credential,
        auth: auth.unwrap_or(Auth::None),
        api_version: settings.api_version,
        region: settings.region,
        dialects: dialects(&fields, provider),
        limits: limits(&fields),
        enabled: fields.flag("enabled", true),
    };
    check_description(&fields);
    check_labels(&fields);
    fields.finish();
    connection
}

/// What the `settings` of a connection say, for the providers that have some.
#[derive(Default)]
struct Settings {
    resource: Option<String>,
    api_version: Option<String>,
    region: Option<String>,
}

impl Settings {
    /// The address that follows from them. Of a resource of Azure with an API version it is the older
    /// one, whose paths name deployments.
    fn base_url(&self) -> Option<BaseUrl> {
        let url = match (&self.resource, &self.region) {
            (Some(resource), _) => {
                let path = if self.api_version.is_some() { "/openai" } else { "/openai/v1" };
                format!("https://{resource}.openai.azure.com{path}")
            }
            (None, Some(region)) => {
                let end = if region.starts_with("cn-") { ".cn" } else { "" };
                format!("https://bedrock-runtime.{region}.amazonaws.com{end}")
            }
            (None, None) => return None,
        };
        url::base_url(&url).ok()
    }
}

fn settings(fields: &Fields<'_>, provider: Option<Provider>) -> Settings {
    let known = provider.map(Provider::settings).unwrap_or_default();
    if known.is_empty() {
        unenforced::free_table(fields, "settings");
        return Settings::default();
    }
    let Some(settings) = fields.get("settings").and_then(|item| item.fields()) else {
        return Settings::default();
    };
    let word = |name: &'static str| {
        let item = settings.get(name)?;
        let text = item.text()?;
        let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if text.is_empty() || !is_word {
            item.problem("must be letters, digits and `-`");
        }
        Some(text.to_owned())
    };
    let mut read = Settings::default();
    for (name, place) in [
        ("resource", &mut read.resource),
        ("api_version", &mut read.api_version),
        ("region", &mut read.region),
    ] {
        if known.iter().any(|(known, _)| *known == name) {
            *place = word(name);
        }
    }
    settings.finish();
    read
}

/// Amazon's keys are signed with, and a signature names a region.
fn check_aws(item: &Item<'_>, credential: &Secret, has_region: bool) {
    match AwsCredential::read(credential.expose()) {
        Err(NotAwsKeys) => item.problem(
            "must be a Bedrock API key, or ACCESS_KEY_ID:SECRET_ACCESS_KEY with :SESSION_TOKEN for \
             temporary keys; profiles and web identities are not read",
        ),
        Ok(AwsCredential::Keys(_)) if !has_region => {
            item.problem("needs `settings = { region = \"…\" }`: signatures name it");
        }
        Ok(AwsCredential::Keys(_) | AwsCredential::ApiKey) => {}
    }
}

fn provider(item: &Item<'_>) -> Option<Provider> {
    let name = item.text()?;
    let provider = Provider::from_name(name);
    if provider.is_none() {
        let shown = item.report().show(name);
        let hint = item.report().did_you_mean(name, Provider::names());
        item.problem(format!("no provider called {shown}{hint}"));
    }
    provider
}

fn base_url(fields: &Fields<'_>, provider: Option<Provider>) -> Option<BaseUrl> {
    if let Some(item) = fields.get("base_url") {
        return url::base_url(item.text()?).map_err(|fault| item.problem(fault)).ok();
    }
    let provider = provider.filter(|provider| *provider != Provider::Simulated)?;
    if provider.base_url().is_none() {
        let place = fields.place().key("base_url", fields.place().line);
        let text = format!("is missing: `{}` has no address of its own", provider.name());
        fields.report().problem(&place, text);
    }
    None // Only what the document says is kept: the provider's own stays the provider's.
}

fn credential(item: &Item<'_>) -> Option<Secret> {
    let text = item.text()?;
    if text.is_empty() {
        item.problem("must not be empty");
    } else if text.len() > CREDENTIAL_LEN_MAX {
        item.problem(format!("must not be longer than {CREDENTIAL_LEN_MAX} characters"));
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        item.problem(
            "holds a character that no credential has: a space, or a line break at its end",
        );
    }
    Some(Secret::new(text.to_owned()))
}

/// Servers at home rarely want a credential; providers always do.
fn default_auth(
    provider: Option<Provider>,
    base_url: Option<&BaseUrl>,
    has_credential: bool,
) -> Auth {
    const WITHOUT_KEYS: [&str; 5] = ["vllm", "sglang", "ollama", "lm_studio", "llama_cpp"];
    let is_free = match provider {
        Some(Provider::Simulated) => true,
        Some(Provider::Compatible(preset)) => {
            WITHOUT_KEYS.contains(&preset.name) || base_url.is_some_and(|url| !url.is_tls)
        }
        _ => false,
    };
    if is_free && !has_credential { Auth::None } else { Auth::ApiKey }
}

fn dialects(fields: &Fields<'_>, provider: Provider) -> Dialects {
    let choices = Dialect::ALL.map(|dialect| (dialect.name(), dialect));
    let listed = fields.items("dialects");
    let listed = listed.iter().filter_map(|item| item.choice(&choices));
    let dialects = provider.dialects().union(listed.collect());
    if dialects == Dialects::NONE {
        fields.report().warning(
            fields.place(),
            format!("`{}` speaks no dialect of this version: list `dialects`", provider.name()),
        );
    }
    dialects
}

fn health_check(
    fields: &Fields<'_>,
    provider: Provider,
    base_url: Option<&BaseUrl>,
) -> Option<HealthCheck> {
    let item = fields.get("health_check")?;
    if provider == Provider::Simulated && base_url.is_none() && fields.get("provider").is_some() {
        item.problem("needs a `base_url`: the built-in provider has no address to check");
    }
    let fields = item.fields()?;
    let path = fields.get("path").and_then(|item| {
        let path = item.text()?;
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            item.problem("must begin with `/` and hold no spaces");
        }
        Some(path.to_owned())
    });
    let check = HealthCheck {
        path,
        interval: fields.fraction_seconds("interval_s", 0.1..=3_600.0, 10.0),
        timeout: fields.millis("timeout_ms", 1..=60_000, 2_000),
        unhealthy_after: fields.number("unhealthy_after", 1..=100, 3),
        healthy_after: fields.number("healthy_after", 1..=100, 2),
    };
    if check.timeout > check.interval.max(Duration::from_millis(1)) {
        fields.problem("`timeout_ms` must not be longer than `interval_s`");
    }
    fields.finish();
    Some(check)
}
