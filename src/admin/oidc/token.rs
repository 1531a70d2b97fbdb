//! ID tokens: signed by a key of the issuer, for us, now, and for the login that we began.
//!
//! Pure. Only signatures by public keys are known, and the kind of the key decides how it is used:
//! what the token says of itself chooses among the keys and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Map, Value as Json};

const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// Clocks differ.
const LEEWAY_S: i64 = 60;

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// Seconds since 1970 UTC.
    pub(super) now_s: i64,
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the ID token is malformed")]
    Malformed,
    /// The keys may have changed since they were read.
    #[error("no key of the issuer is known by which the ID token is signed")]
    UnknownKey,
    #[error("the signature of the ID token is wrong")]
    Signature,
    #[error("the ID token is of another issuer")]
    Issuer,
    #[error("the ID token is for somebody else")]
    Audience,
    #[error("the ID token is too old, or from the future")]
    Time,
    #[error("the ID token is of another login")]
    Nonce,
}

/// The claims of `token`, if it counts. `keys` is the issuer's JWK set.
pub(super) fn verify(
    token: &str,
    keys: &Json,
    expected: &Expected<'_>,
) -> Result<Map<String, Json>, TokenError> {
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(signature), None, true) =
        (parts.next(), parts.next(), parts.next(), parts.next(), token.len() <= TOKEN_BYTES_MAX)
    else {
        return Err(TokenError::Malformed);
    };
    let header = object(head)?;
    // An extension that must be understood, and is not.
    if header.contains_key("crit") {
        return Err(TokenError::Malformed);
    }
    let algorithm = header.get("alg").and_then(Json::as_str).ok_or(TokenError::Malformed)?;
    let signature = BASE64.decode(signature).map_err(|_| TokenError::Malformed)?;
    let signed = token.get(..head.len() + 1 + body.len()).ok_or(TokenError::Malformed)?;
    check_signature((signed.as_bytes(), &signature), algorithm, header.get("kid"), keys)?;
    let claims = object(body)?;
    check_claims(&claims, expected)?;
    Ok(claims)
}

fn object(part: &str) -> Result<Map<String, Json>, TokenError> {
    let bytes = BASE64.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

fn check_signature(
    (signed, signature): (&[u8], &[u8]),
    algorithm: &str,
    kid: Option<&Json>,
    keys: &Json,
) -> Result<(), TokenError> {
    let all = keys.get("keys").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_it = |key: &&Json| {
        let says = |field: &str, text: &str| key.get(field).is_none_or(|it| it == text);
        kid.is_none_or(|kid| key.get("kid") == Some(kid))
            && says("use", "sig")
            && says("alg", algorithm)
    };
    let mut failure = TokenError::UnknownKey;
    for key in all.iter().filter(is_it) {
        let Some(key) = PublicKey::read(key, algorithm) else { continue };
        if key.verifies(signed, signature) {
            return Ok(());
        }
        failure = TokenError::Signature;
    }
    Err(failure)
}

/// A key, and how it signs.
enum PublicKey {
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    Curve(&'static dyn VerificationAlgorithm, Vec<u8>),
}

impl PublicKey {
    /// `None` for a key that does not sign in this way.
    fn read(key: &Json, algorithm: &str) -> Option<Self> {
        let text = |field: &str| key.get(field).and_then(Json::as_str);
        let bytes = |field: &str| BASE64.decode(text(field)?).ok();
        let curve = || text("crv");
        match (text("kty")?, algorithm) {
            ("RSA", algorithm) => {
                let parameters = match algorithm {
                    "RS256" => &RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &RSA_PSS_2048_8192_SHA256,
                    "PS384" => &RSA_PSS_2048_8192_SHA384,
                    "PS512" => &RSA_PSS_2048_8192_SHA512,
                    _ => return None,
                };
                Some(Self::Rsa(
                    parameters,
                    RsaPublicKeyComponents { n: bytes("n")?, e: bytes("e")? },
                ))
            }
            ("EC", "ES256") if curve() == Some("P-256") => {
                Some(Self::Curve(&ECDSA_P256_SHA256_FIXED, point(&bytes("x")?, &bytes("y")?)))
            }
            ("EC", "ES384") if curve() == Some("P-384") => {
                Some(Self::Curve(&ECDSA_P384_SHA384_FIXED, point(&bytes("x")?, &bytes("y")?)))
            }
            ("OKP", "EdDSA") if curve() == Some("Ed25519") => {
                Some(Self::Curve(&ED25519, bytes("x")?))
            }
            _ => None,
        }
    }

    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(parameters, key) => key.verify(parameters, signed, signature).is_ok(),
            Self::Curve(algorithm, key) => {
                UnparsedPublicKey::new(*algorithm, key).verify(signed, signature).is_ok()
            }
        }
    }
}

/// An uncompressed point.
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

fn check_claims(claims: &Map<String, Json>, expected: &Expected<'_>) -> Result<(), TokenError> {
    let text = |name: &str| claims.get(name).and_then(Json::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(TokenError::Issuer);
    }
    let is_for_us = match claims.get("aud") {
        Some(Json::String(one)) => one == expected.client_id,
        Some(Json::Array(all)) => all.iter().any(|it| it == expected.client_id),
        _ => false,
    };
    let by_us = text("azp").is_none_or(|party| party == expected.client_id);
    if !is_for_us || !by_us {
        return Err(TokenError::Audience);
    }
    let Expected { now_s, .. } = *expected;
    let is_alive = number(claims, "exp")?.is_some_and(|end| now_s < end + LEEWAY_S);
    let is_made = number(claims, "iat")?.is_some_and(|at| at <= now_s + LEEWAY_S);
    let is_begun = number(claims, "nbf")?.is_none_or(|start| start <= now_s + LEEWAY_S);
    if !is_alive || !is_made || !is_begun {
        return Err(TokenError::Time);
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(TokenError::Nonce);
    }
    if text("sub").is_none_or(|sub| sub.is_empty() || 255 < sub.len()) {
        return Err(TokenError::Malformed);
    }
    Ok(())
}

/// A time; what is there and no number is no token.
fn number(claims: &Map<String, Json>, name: &str) -> Result<Option<i64>, TokenError> {
    #[expect(clippy::cast_possible_truncation, reason = "seconds with a fraction, of this age")]
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Number(number)) => {
            let number = number.as_f64().filter(|number| number.abs() < 1e12);
            number.map(|number| Some(number as i64)).ok_or(TokenError::Malformed)
        }
        Some(_) => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://id.example", client_id: "sluice", nonce: "n", now_s: NOW };

    struct Signer {
        key: EcdsaKeyPair,
        keys: Json,
    }

    fn signer() -> Signer {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random)
                .unwrap();
        let point = key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| BASE64.encode(half));
        let key_json =
            json!({ "kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "x": x, "y": y });
        Signer { key, keys: json!({ "keys": [key_json] }) }
    }

    impl Signer {
        fn token(&self, header: &Json, claims: &Json) -> String {
            let [head, body] = [header, claims].map(|part| BASE64.encode(part.to_string()));
            let signed = format!("{head}.{body}");
            let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", BASE64.encode(signature.as_ref()))
        }
    }

    fn header() -> Json {
        json!({ "alg": "ES256", "kid": "k", "typ": "JWT" })
    }

    fn claims() -> Json {
        json!({ "iss": "https://id.example", "aud": "sluice", "sub": "ada", "nonce": "n",
            "iat": NOW - 5, "exp": NOW + 300 })
    }

    #[test]
    fn token_of_the_issuer_for_this_login_counts() {
        let signer = signer();
        let token = signer.token(&header(), &claims());
        assert_eq!(verify(&token, &signer.keys, &EXPECTED).unwrap()["sub"], json!("ada"));
        let several = json!({ "aud": ["other", "sluice"], "azp": "sluice" });
        let mut all = claims();
        all.as_object_mut().unwrap().extend(several.as_object().unwrap().clone());
        assert!(verify(&signer.token(&header(), &all), &signer.keys, &EXPECTED).is_ok());
    }

    #[test]
    fn token_that_says_anything_else_does_not_count() {
        let signer = signer();
        for (field, value, why) in [
            ("iss", json!("https://id.example/"), TokenError::Issuer),
            ("iss", Json::Null, TokenError::Issuer),
            ("aud", json!("other"), TokenError::Audience),
            ("aud", json!(["other"]), TokenError::Audience),
            ("aud", Json::Null, TokenError::Audience),
            ("azp", json!("other"), TokenError::Audience),
            ("exp", json!(NOW - LEEWAY_S), TokenError::Time),
            ("exp", json!("9999999999"), TokenError::Malformed),
            ("exp", json!(1e300), TokenError::Malformed),
            ("iat", json!(NOW + LEEWAY_S + 1), TokenError::Time),
            ("nbf", json!(NOW + LEEWAY_S + 1), TokenError::Time),
            ("nbf", json!("never"), TokenError::Malformed),
            ("nonce", json!("m"), TokenError::Nonce),
            ("nonce", Json::Null, TokenError::Nonce),
            ("sub", json!(""), TokenError::Malformed),
            ("sub", json!(7), TokenError::Malformed),
        ] {
            let mut claims = claims();
            claims[field] = value;
            let token = signer.token(&header(), &claims);
            assert_eq!(verify(&token, &signer.keys, &EXPECTED).unwrap_err(), why, "{claims}");
        }
        for field in ["exp", "iat"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(field);
            let token = signer.token(&header(), &claims);
            assert_eq!(verify(&token, &signer.keys, &EXPECTED).unwrap_err(), TokenError::Time);
        }
    }

    #[test]
    fn only_keys_of_the_issuer_sign_and_only_as_their_kind_does() {
        let [signer, other] = [(); 2].map(|()| signer());
        let forged = other.token(&header(), &claims());
        assert_eq!(verify(&forged, &signer.keys, &EXPECTED).unwrap_err(), TokenError::Signature);
        for algorithm in ["none", "HS256", "RS256", "ES384", "EdDSA", ""] {
            let header = json!({ "alg": algorithm, "kid": "k" });
            let token = signer.token(&header, &claims());
            let error = verify(&token, &signer.keys, &EXPECTED).unwrap_err();
            assert_eq!(error, TokenError::UnknownKey, "{algorithm}");
        }
        for header in
            [json!({ "alg": "ES256", "kid": "other" }), json!({ "alg": "ES256", "kid": 1 })]
        {
            let token = signer.token(&header, &claims());
            let error = verify(&token, &signer.keys, &EXPECTED).unwrap_err();
            assert_eq!(error, TokenError::UnknownKey, "{header}");
        }
        let critical = json!({ "alg": "ES256", "kid": "k", "crit": ["b64"] });
        let token = signer.token(&critical, &claims());
        assert_eq!(verify(&token, &signer.keys, &EXPECTED).unwrap_err(), TokenError::Malformed);
        let mut keys = signer.keys.clone();
        keys["keys"][0]["use"] = json!("enc");
        let token = signer.token(&header(), &claims());
        assert_eq!(verify(&token, &keys, &EXPECTED).unwrap_err(), TokenError::UnknownKey);
    }

    proptest! {
        #[test]
        fn no_bit_of_a_token_can_be_changed(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
            let signer = signer();
            let token = signer.token(&header(), &claims());
            let at = at.index(token.len());
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            // The last letter of each part has bits that mean nothing; those are refused too.
            prop_assert!(changed == token || verify(&changed, &signer.keys, &EXPECTED).is_err());
        }

        #[test]
        fn no_text_panics(token in "[ -~]{0,80}", keys in "[ -~]{0,40}") {
            let keys = json!({ "keys": [keys] });
            prop_assert!(verify(&token, &keys, &EXPECTED).is_err());
        }
    }
}
