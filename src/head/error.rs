//! Why a head is refused.

use std::fmt;

/// A refusal: what the client gets, and the label under which it is counted.
///
/// The message says which rule was broken, and repeats nothing of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadError {
    pub status: u16,
    /// The code in the error body.
    pub code: &'static str,
    /// The label in metrics.
    pub reason: &'static str,
    message: &'static str,
}

impl HeadError {
    pub const fn message(&self) -> &'static str {
        self.message
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.message)
    }
}

impl std::error::Error for HeadError {}

macro_rules! errors {
    ($($name:ident $status:literal $code:literal $reason:literal $message:literal)*) => {
        impl HeadError {
            $(
                #[doc = concat!($status, ": ", $message, ".")]
                pub const $name: Self =
                    Self { status: $status, code: $code, reason: $reason, message: $message };
            )*

            /// Every refusal there is, for registering the metric's labels.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

errors! {
    INCOMPLETE 400 "invalid_request" "incomplete"
        "the request head does not end with an empty line"
    BARE_LF 400 "invalid_request" "bare_lf"
        "a line of the request head ends without a carriage return"
    BARE_CR 400 "invalid_request" "bare_cr"
        "a carriage return in the request head does not end a line"
    REQUEST_LINE 400 "invalid_request" "request_line"
        "the request line is not a method, a target and a version, separated by single spaces"
    METHOD 400 "invalid_request" "method"
        "the method has characters that a method cannot have"
    METHOD_REFUSED 405 "invalid_request" "method_refused"
        "this method is not served"
    TARGET 400 "invalid_request" "target"
        "the request target is neither a path nor an absolute URL, or has characters that must be percent-encoded"
    TARGET_TOO_LONG 414 "request_too_large" "target_too_long"
        "the request target is longer than 8192 bytes"
    VERSION 400 "invalid_request" "version"
        "the version in the request line is not HTTP/1.1 or HTTP/1.0"
    VERSION_REFUSED 505 "invalid_request" "version_refused"
        "this version of HTTP is not served here"
    TOO_LARGE 431 "headers_too_large" "too_large"
        "the request head is larger than 32768 bytes"
    TOO_MANY 431 "headers_too_large" "too_many"
        "the request has more than 100 headers"
    FOLDED 400 "invalid_request" "folded"
        "a header is continued on a line of its own"
    HEADER_NAME 400 "invalid_request" "header_name"
        "a header line has no name, or a name with characters that a name cannot have"
    HEADER_NAME_SPACE 400 "invalid_request" "header_name_space"
        "there is white space between a header's name and its colon"
    HEADER_NAME_UNDERSCORE 400 "invalid_request" "header_name_underscore"
        "a header's name has an underscore"
    HEADER_VALUE 400 "invalid_request" "header_value"
        "a header's value has control characters"
    HOST_MISSING 400 "invalid_request" "host_missing"
        "the Host header is missing"
    HOST_TWICE 400 "invalid_request" "host_twice"
        "there is more than one Host header"
    HOST 400 "invalid_request" "host"
        "the Host header is not a host with an optional port"
    HOST_DIFFERS 400 "invalid_request" "host_differs"
        "the request target names another host than the Host header"
    LENGTH 400 "invalid_request" "length"
        "the Content-Length header is not a number"
    LENGTH_TWICE 400 "invalid_request" "length_twice"
        "there is more than one Content-Length header"
    ENCODING 400 "invalid_request" "encoding"
        "the Transfer-Encoding header is not `chunked`"
    ENCODING_TWICE 400 "invalid_request" "encoding_twice"
        "there is more than one Transfer-Encoding header"
    ENCODING_OLD 400 "invalid_request" "encoding_old"
        "HTTP/1.0 knows no Transfer-Encoding header"
    LENGTH_AND_ENCODING 400 "invalid_request" "length_and_encoding"
        "there is both a Content-Length and a Transfer-Encoding header"
    CONNECTION 400 "invalid_request" "connection"
        "the Connection header is not a list of options, or names a header that must not be dropped"
    UPGRADE 400 "invalid_request" "upgrade"
        "upgrading the connection is not supported; send the request without an Upgrade header"
    EXPECTATION 417 "invalid_request" "expectation"
        "the Expect header is not `100-continue`"
}
