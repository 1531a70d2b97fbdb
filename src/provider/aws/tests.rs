//! Signatures against those of another library, and the forms of a credential.

use bytes::BytesMut;

use super::*;

fn lines(
    credential: &str,
    (region, host): (&str, &str),
    (path, body): (&str, &'static str),
    unix_s: i64,
) -> String {
    let Ok(AwsCredential::Keys(keys)) = AwsCredential::read(credential) else { panic!() };
    let signer = Signer::new(keys, region, host);
    let mut out = BytesMut::new();
    // A body in parts is signed as one.
    let (first, second) = body.split_at(5);
    let body = [Bytes::from_static(first.as_bytes()), Bytes::from_static(second.as_bytes())];
    signer.lines(&Signed { method: "POST", path, body: &body, unix_s }, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// What botocore makes of the same requests.
#[test]
fn signatures_are_those_of_amazons_own_library() {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let plain = lines(
        &format!("AKIDEXAMPLE:{secret}"),
        ("us-east-1", "bedrock-runtime.us-east-1.amazonaws.com"),
        ("/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", r#"{"messages":[]}"#),
        1_700_000_000,
    );
    assert_eq!(
        plain,
        "x-amz-date: 20231114T221320Z\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/us-east-1/bedrock/aws4_request, \
         SignedHeaders=host;x-amz-date, \
         Signature=76fe43c2846b60ddd135aeddcea279de04d25a833473d9a8990585a5f282a43c\r\n"
    );
    let temporary = lines(
        &format!("ASIAEXAMPLE:{secret}:IQoJb3JpZ2luX2VjEXAMPLE//token=="),
        ("eu-central-1", "bedrock-runtime.eu-central-1.amazonaws.com"),
        (
            "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Feu.amazon.nova-pro-v1%3A0/converse-stream",
            r#"{"messages":[{"role":"user","content":[{"text":"ä"}]}]}"#,
        ),
        1_772_323_200,
    );
    assert_eq!(
        temporary,
        "x-amz-date: 20260301T000000Z\r\n\
         x-amz-security-token: IQoJb3JpZ2luX2VjEXAMPLE//token==\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20260301/eu-central-1/bedrock/aws4_request, \
         SignedHeaders=host;x-amz-date;x-amz-security-token, \
         Signature=7e4937448ca2921d8629a58ed90cb7bb1f8417829e8aee8b208bfb9480925abe\r\n"
    );
}

#[test]
fn credential_is_a_key_or_two_or_three_parts() {
    assert!(matches!(AwsCredential::read("ABSKQmVkcm9jaw=="), Ok(AwsCredential::ApiKey)));
    assert!(matches!(AwsCredential::read("AKID:secret"), Ok(AwsCredential::Keys(_))));
    for text in ["AKID:", ":secret", "AKID:secret:", "a:b:c:d"] {
        assert!(matches!(AwsCredential::read(text), Err(NotAwsKeys)), "{text}");
    }
}

#[test]
fn signer_shows_no_secret() {
    let Ok(AwsCredential::Keys(keys)) = AwsCredential::read("AKID:s3cret:t0ken") else { panic!() };
    let shown = format!("{:?}", Signer::new(keys, "us-east-1", "h"));
    assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
}
