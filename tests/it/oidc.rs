//! Single sign-on against a real OpenID provider: a login as a browser makes it, and every way in which
//! one must not count.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use sluice::config::server::{OidcConfig, ServerConfig};

use crate::admin_roles::call;
use crate::client::{Answer, Client, request};
use crate::harness::{Builder, TestGateway};

const CALLBACK: &str = "http://localhost/api/v1/auth/oidc/callback";

/// The provider of `tests/oidc`, in a process of its own.
struct Provider {
    child: Child,
    asked: ChildStdin,
    said: BufReader<ChildStdout>,
    issuer: String,
    _dir: tempfile::TempDir,
}

impl Provider {
    fn start() -> Self {
        let sdk = std::env::var_os("SLUICE_SDK_DIR").expect("tests/run sets SLUICE_SDK_DIR");
        let modules = PathBuf::from(sdk).join("oidc/node_modules");
        assert!(modules.exists(), "tests/oidc/install puts the provider there");
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(modules, dir.path().join("node_modules")).unwrap();
        let script = dir.path().join("server.mjs");
        std::fs::write(&script, include_str!("../oidc/server.mjs")).unwrap();
        let mut child = Command::new("node")
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asked = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut provider = Self { child, asked, said, issuer: String::new(), _dir: dir };
        let said = provider.line();
        said["issuer"].as_str().unwrap().clone_into(&mut provider.issuer);
        provider
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// What its next tokens say.
    fn tell(&mut self, told: &Value) {
        writeln!(self.asked, "{told}").unwrap();
        self.line();
    }

    fn claims(&mut self, claims: &Value) {
        self.tell(&json!({ "claims": claims }));
    }

    fn config(&self, rest: &str) -> OidcConfig {
        let text = format!(
            "[oidc]\nissuer = '{}'\nclient_id = 'sluice'\nclient_secret = 'a client secret'\n\
             redirect_url = '{CALLBACK}'\n{rest}",
            self.issuer
        );
        ServerConfig::parse("sluice.toml", &text, std::iter::empty()).unwrap().oidc.unwrap()
    }

    async fn gateway(&self, rest: &str) -> TestGateway {
        let oidc = self.config(rest);
        Builder::new("").with(|config| config.oidc = Some(oidc)).start().await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn cookie_of(answer: &Answer, name: &str) -> Option<String> {
    answer
        .headers
        .iter()
        .filter(|(header, _)| header == "set-cookie")
        .filter_map(|(_, value)| value.split(';').next())
        .find(|pair| pair.starts_with(&format!("{name}=")))
        .map(str::to_owned)
}

fn query_of(url: &str) -> HashMap<String, String> {
    let query = url.split_once('?').unwrap().1;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A login up to where the provider sends the browser back: the path, and the cookie.
async fn begun(gateway: &TestGateway, provider: &Provider) -> (String, String) {
    let answer = call(gateway, ("GET", "/auth/oidc/login"), &[], &Value::Null).await;
    assert_eq!(answer.status, 302, "{}", answer.text());
    let cookie = cookie_of(&answer, "sluice_sign_on").unwrap();
    let flags = answer.header("set-cookie").unwrap();
    assert!(flags.contains("HttpOnly") && flags.contains("SameSite=Lax"), "{flags}");
    let location = answer.header("location").unwrap();
    let asked = query_of(location);
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["code_challenge"].len(), 43);
    for name in ["state", "nonce"] {
        assert!(asked[name].len() >= 43, "{name}");
    }
    let path = location.strip_prefix(&provider.issuer).unwrap();
    let host: SocketAddr =
        provider.issuer.replace("http://localhost", "127.0.0.1").parse().unwrap();
    let answer = Client::connect(host).await.call(&request("GET", path, &[], b"")).await;
    assert_eq!(answer.status, 302, "{}", answer.text());
    let back = answer.header("location").unwrap();
    let back = back.strip_prefix("http://localhost/api/v1").unwrap().to_owned();
    (back, cookie)
}

async fn back(gateway: &TestGateway, path: &str, cookie: &str) -> Answer {
    call(gateway, ("GET", path), &[("cookie", cookie)], &Value::Null).await
}

async fn login(gateway: &TestGateway, provider: &Provider) -> Answer {
    let (path, cookie) = begun(gateway, provider).await;
    back(gateway, &path, &cookie).await
}

fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

fn ada() -> Value {
    json!({ "sub": "ada-1", "email": "Ada@example.org", "email_verified": true, "name": "Ada",
        "groups": ["dev"] })
}

#[tokio::test]
async fn somebody_new_gets_a_user_and_a_session_as_after_a_password() {
    let mut provider = Provider::start();
    let gateway = provider.gateway("admins = ['ops']\n").await;
    provider.claims(&ada());
    let answer = login(&gateway, &provider).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown = answer.json();
    assert_eq!(shown["user"]["email"], json!("ada@example.org"));
    assert_eq!(shown["user"]["platform_role"], json!("member"));
    let session = cookie_of(&answer, "sluice_session").unwrap();
    let csrf = cookie_of(&answer, "sluice_csrf").unwrap();
    assert_eq!(csrf.strip_prefix("sluice_csrf=").unwrap(), shown["csrf_token"].as_str().unwrap());
    assert_eq!(answer.header("refresh"), Some("0; url=/"));

    let headers = [("cookie", session.as_str())];
    let me = call(&gateway, ("GET", "/auth/me"), &headers, &Value::Null).await.json();
    assert_eq!(me["user"]["id"], shown["user"]["id"]);
    let workspace = json!({ "slug": "adas" });
    let forged = call(&gateway, ("POST", "/workspaces"), &headers, &workspace).await;
    assert_eq!(code(&forged), "csrf");
    let token = shown["csrf_token"].as_str().unwrap();
    let with_token = [headers[0], ("x-csrf-token", token)];
    let made = call(&gateway, ("POST", "/workspaces"), &with_token, &workspace).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let out = call(&gateway, ("POST", "/auth/logout"), &with_token, &json!({})).await;
    assert_eq!(out.status, 204);
    assert_eq!(call(&gateway, ("GET", "/auth/me"), &headers, &Value::Null).await.status, 401);

    // The same person, with another address and another role, by another kind of key.
    for (alg, groups, role) in
        [("ES256", "ops", "admin"), ("EdDSA", "none", "member"), ("PS256", "ops", "admin")]
    {
        provider.tell(&json!({ "alg": alg, "claims": { "sub": "ada-1", "groups": [groups],
            "email": "ada@elsewhere.example", "email_verified": false } }));
        let answer = login(&gateway, &provider).await;
        assert_eq!(answer.status, 200, "{alg}: {}", answer.text());
        let user = &answer.json()["user"];
        assert_eq!((&user["id"], &user["platform_role"]), (&shown["user"]["id"], &json!(role)));
    }
    // A password of theirs there is none.
    let guess = json!({ "email": "ada@example.org", "password": "" });
    assert_ne!(call(&gateway, ("POST", "/auth/login"), &[], &guess).await.status, 200);
    let events = gateway.admin("GET", "/audit-events?action=sign_on", None).await.json();
    assert_eq!(events["data"].as_array().unwrap().len(), 4, "{events}");
    gateway.stop().await;
}

#[tokio::test]
async fn known_address_is_taken_over_only_if_the_provider_has_verified_it() {
    let mut provider = Provider::start();
    let gateway = provider.gateway("").await;
    let invited =
        gateway.admin("POST", "/users", Some(&json!({ "email": "ada@example.org" }))).await;
    let id = invited.json()["id"].clone();
    for verified in [json!(false), json!("no"), Value::Null] {
        let mut claims = ada();
        claims["email_verified"] = verified;
        provider.claims(&claims);
        let answer = login(&gateway, &provider).await;
        assert_eq!((answer.status, &*code(&answer)), (401, "sign_on_failed"), "{}", answer.text());
    }
    provider.claims(&ada());
    let answer = login(&gateway, &provider).await;
    assert_eq!((answer.status, &answer.json()["user"]["id"]), (200, &id), "{}", answer.text());

    let path = format!("/users/{}/disable", id.as_str().unwrap());
    assert_eq!(gateway.admin("POST", &path, Some(&json!({}))).await.status, 200);
    assert_eq!(login(&gateway, &provider).await.status, 401);
    // The first superadmin stays one, whatever the provider says.
    provider.claims(&json!({ "sub": "root", "email": "admin@localhost", "email_verified": true }));
    let answer = login(&gateway, &provider).await;
    assert_eq!(answer.json()["user"]["platform_role"], json!("superadmin"), "{}", answer.text());
    gateway.stop().await;

    let closed = provider.gateway("members = ['dev']\ndefault_role = 'none'\n").await;
    provider.claims(&ada());
    assert_eq!(login(&closed, &provider).await.status, 200);
    let mut outsider = ada();
    (outsider["groups"], outsider["sub"]) = (json!(["sales"]), json!("other"));
    provider.claims(&outsider);
    assert_eq!(code(&login(&closed, &provider).await), "sign_on_failed");
    closed.stop().await;
}

#[tokio::test]
async fn login_that_is_not_whole_does_not_count() {
    let mut provider = Provider::start();
    let gateway = provider.gateway("").await;
    provider.claims(&ada());
    let refused = |answer: &Answer, what: &str| {
        let seen = (answer.status, code(answer));
        assert_eq!(seen, (401, "sign_on_failed".to_owned()), "{what}: {}", answer.text());
        assert!(cookie_of(answer, "sluice_session").is_none(), "{what}");
    };
    let (path, cookie) = begun(&gateway, &provider).await;
    let (_, other) = begun(&gateway, &provider).await;
    refused(&back(&gateway, &path, "a=b").await, "no cookie");
    refused(&back(&gateway, &path, &other).await, "another login's cookie");
    let changed = format!("{}A", &cookie[..cookie.len() - 1]);
    let changed =
        if changed == cookie { format!("{}B", &cookie[..cookie.len() - 1]) } else { changed };
    refused(&back(&gateway, &path, &changed).await, "a changed cookie");
    let state = &query_of(&path)["state"];
    let at = "/auth/oidc/callback";
    refused(&back(&gateway, &format!("{at}?state={state}"), &cookie).await, "no code");
    refused(&back(&gateway, &format!("{at}?code=x"), &cookie).await, "no state");
    refused(&back(&gateway, &format!("{at}?code=x&state={state}"), &cookie).await, "another code");
    let error = format!("{at}?error=access_denied&state={state}");
    refused(&back(&gateway, &error, &cookie).await, "refused there");
    let issuer = format!("{path}&iss=https://other.example");
    refused(&back(&gateway, &issuer, &cookie).await, "another issuer");
    assert_eq!(back(&gateway, &path, &cookie).await.status, 200);
    refused(&back(&gateway, &path, &cookie).await, "the code a second time");

    for (field, value) in [
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("aud", json!("somebody-else")),
        ("iss", json!("https://other.example")),
        ("exp", json!(1_000_000_000)),
        ("iat", json!(9_000_000_000_u64)),
        ("sub", Value::Null),
        ("email", Value::Null),
    ] {
        let mut claims = ada();
        claims[field] = value;
        provider.claims(&claims);
        refused(&login(&gateway, &provider).await, field);
        provider.claims(&json!({}));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_provider_there_is_no_sign_on_and_one_that_is_down_is_said() {
    let gateway = Builder::new("").start().await;
    for path in ["/auth/oidc/login", "/auth/oidc/callback?code=a&state=b"] {
        assert_eq!(call(&gateway, ("GET", path), &[], &Value::Null).await.status, 404);
    }
    gateway.stop().await;
    let provider = Provider::start();
    let config = provider.config("");
    drop(provider);
    let gateway = Builder::new("").with(|all| all.oidc = Some(config)).start().await;
    let answer = call(&gateway, ("GET", "/auth/oidc/login"), &[], &Value::Null).await;
    assert_eq!((answer.status, &*code(&answer)), (401, "sign_on_failed"));
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    gateway.stop().await;
}
